"""A program that fails while its pipeline still calls Python: `python -m tests.programs.fail_at_work`."""

import io
import time

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_siamim.data import pipeline
from keras_siamim.data.images import decoding
from keras_siamim.data.sources import indexed
from keras_siamim.data.views.paired_views import PairedViews


def slowly(decode):
    """Decode in a while, so that some thread is always at it."""

    def decode_slowly(encoded):
        time.sleep(0.3)
        return decode(encoded)

    return decode_slowly


if __name__ == "__main__":
    decoding.decode_with_pillow = slowly(decoding.decode_with_pillow)
    file = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), "uint8")).save(file, "WEBP")
    images = tf.constant([file.getvalue()] * 64)
    source = indexed.IndexedSource("webp", 64, indexed.columns_of({"image": images}))
    batches = iter(pipeline.training_batches(source, PairedViews(16), batch_size=2))
    next(batches)
    raise RuntimeError("failed at work")
