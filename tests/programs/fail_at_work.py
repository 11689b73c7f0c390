"""A program that fails while its data pipeline is running: `python -m tests.programs.fail_at_work`."""

import time

import numpy as np

from keras_siamim.data import pipeline, sources
from keras_siamim.data.masking import Masking
from keras_siamim.data.views.paired_views import PairedViews


class SlowMasking(Masking):
    """Masking so slow that some thread is always inside it."""

    def visible_ids(self, *arguments):
        """Return the visible patches after a delay."""
        time.sleep(0.3)
        return super().visible_ids(*arguments)


if __name__ == "__main__":
    source = sources.array_source(np.zeros((64, 16, 16, 3), "uint8"))
    masking = SlowMasking((2, 2), 2, min_block=1)
    batches = iter(pipeline.training_batches(source, PairedViews(16), masking, batch_size=2))
    next(batches)
    raise RuntimeError("failed at work")
