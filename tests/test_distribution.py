"""The public interface of distributed training; `test_many_devices.py` trains with it."""

import numpy as np
import pytest

from keras_siamim.data.masking import Masking
from keras_siamim.data.pipeline import training_batches
from keras_siamim.data.sources import digits_source
from keras_siamim.data.views.paired_views import PairedViews
from keras_siamim.distribution import Distribution, set_up
from keras_siamim.objectives.validation import check_replicas

pytestmark = pytest.mark.one_backend("tensorflow")


def test_one_device_is_one_replica_of_one_worker():
    distribution = set_up(devices=1)
    assert (distribution.replicas, distribution.workers, distribution.worker) == (1, 1, 0)
    assert distribution.is_first


@pytest.mark.parametrize("arguments", [{"devices": 0}, {"devices": 1000}, {"model_parallel": 2}])
def test_missing_devices_are_rejected(arguments):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}`"):
        set_up(**arguments)


def test_a_missing_tpu_is_an_error(monkeypatch):
    monkeypatch.setenv("TPU_NAME", "local")
    with pytest.raises(Exception, match="TPU"):
        set_up()


def test_replicas_must_divide_the_global_batch():
    assert Distribution(replicas=4, workers=2).worker_batch_size(16) == 8
    with pytest.raises(ValueError, match="`batch_size` must be divisible by the number of replicas, 4. Received: 6."):
        Distribution(replicas=4, workers=2).worker_batch_size(6)


@pytest.mark.parametrize(("images", "batch_size"), [(9, 8), (12, 6), (9, 9)])
def test_ragged_and_indivisible_batches_are_rejected(images, batch_size):
    with pytest.raises(ValueError, match="the same for all batches and divisible by the 4"):
        check_replicas({"view_1": np.zeros((images, 1))}, batch_size, parts=4)
    check_replicas({"view_1": np.zeros((16, 1))}, 8, parts=4)


@pytest.mark.slow
def test_workers_read_every_image_of_an_epoch_once():
    seen = []
    for worker in range(2):
        distribution = Distribution(replicas=2, workers=2, worker=worker)
        batches = training_batches(
            digits_source(),
            PairedViews(8, seed=0),
            Masking((2, 2), 1, min_block=1),
            batch_size=distribution.worker_batch_size(1000),
            workers=distribution.workers,
            worker=distribution.worker,
        )
        for batch in batches.take(4).as_numpy_iterator():
            seen += [a.tobytes() + b.tobytes() for a, b in zip(batch["view_1"], batch["view_2"], strict=True)]
    assert len(set(seen)) == len(seen) == 4000
