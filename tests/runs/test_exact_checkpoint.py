import os
import resource
import signal
import time

import keras
import numpy as np
import pytest

from keras_siamim.layers.regularization import StochasticDepth
from keras_siamim.runs.checkpoint_files import CheckpointFiles, Progress, read_arrays
from keras_siamim.runs.exact_checkpoint import EndOnSignal, ExactCheckpoint, Preempted
from keras_siamim.runs.training_state import restore, training_state

EPOCH = 6


@pytest.fixture
def model():
    """One dense layer and an optimizer with momentum."""
    model = keras.Sequential([keras.Input((3,)), StochasticDepth(0.5), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    return model


@pytest.fixture
def fit(model, rng):
    x, y = rng.normal(size=(EPOCH, 3)), rng.normal(size=(EPOCH, 1))

    def fit(*callbacks, epochs=1, model=model, first=0):
        model.fit(x[first:], y[first:], batch_size=1, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)

    return fit


@pytest.fixture
def begun(model, tmp_path):
    """An `ExactCheckpoint` at the beginning."""

    def begun(**arguments):
        checkpoint = ExactCheckpoint(CheckpointFiles(tmp_path / "saves", keep=99), EPOCH, **arguments)
        checkpoint.start_at(Progress(), model)
        return checkpoint

    return begun


def saved(checkpoint):
    checkpoint.wait()
    return [int(path.name[-9:]) for path in reversed(checkpoint.files.paths())]


@pytest.mark.parametrize("background", [True, False])
def test_saves_at_intervals_of_batches(fit, begun, background):
    checkpoint = begun(every_batches=4, background=background)
    fit(checkpoint, epochs=2)
    assert saved(checkpoint) == [4, 8, 12]


def test_saves_at_intervals_of_minutes(fit, begun):
    checkpoint = begun(every_minutes=0.1 / 60)
    late = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batch == 3 and time.sleep(0.2))
    fit(late, checkpoint)
    assert saved(checkpoint)[0] in (1, 2, 3, 4)
    assert 4 in saved(checkpoint)


def test_other_processes_write_nothing(fit, begun):
    checkpoint = begun(every_batches=1, writes=False)
    fit(checkpoint)
    assert saved(checkpoint) == []
    assert checkpoint.progress.batches == EPOCH


def test_no_save_while_steps_are_skipped(fit, begun):
    def skip(batch, logs):
        logs["skipped_in_a_row"] = 2 if batch == 3 else 0

    checkpoint = begun(every_batches=4)
    fit(keras.callbacks.LambdaCallback(on_train_batch_end=skip), checkpoint)
    assert saved(checkpoint) == [5]


def test_training_from_a_restored_state_gives_the_same_state(model, fit, begun):
    checkpoint = begun(every_batches=4)
    fit(checkpoint)
    assert saved(checkpoint) == [4]
    path = checkpoint.files.newest()[0]
    assert read_arrays(path).keys() == training_state(model).keys()
    ended = training_state(model)
    other = keras.models.clone_model(model)
    other.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    again = ExactCheckpoint(checkpoint.files, EPOCH)
    again.start_at(Progress(batches=4), other, path)
    fit(again, model=other, first=4)
    for (name, before), after in zip(ended.items(), training_state(other).values(), strict=True):
        np.testing.assert_array_equal(before, after, err_msg=name)
    assert again.progress.batches == EPOCH


def test_the_state_of_another_model_is_refused_and_nothing_is_restored(model):
    other = keras.Sequential([keras.Input((4,)), StochasticDepth(0.5), keras.layers.Dense(1)])
    other.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    before = training_state(other)
    with pytest.raises(ValueError, match=r"\(4, 1\) for .*kernel.*Received: \(3, 1\)"):
        restore(other, training_state(model))
    other.compile("adam", "mse")
    with pytest.raises(ValueError, match="variables of the optimizer"):
        restore(other, training_state(model), ["optimizer"])
    np.testing.assert_array_equal(before["model/00001/" + other.variables[1].path], other.get_weights()[0])


@pytest.mark.parametrize("batch", [2, EPOCH - 1])
def test_sigterm_saves_and_stops_training(fit, begun, batch):
    checkpoint = begun()
    send = keras.callbacks.LambdaCallback(on_train_batch_end=lambda b, logs: b == batch and signal.raise_signal(15))
    before = signal.getsignal(signal.SIGTERM)
    with EndOnSignal(checkpoint), pytest.raises(Preempted) as raised:
        fit(send, checkpoint, epochs=2)
    assert raised.value.progress.batches == batch + 1
    assert saved(checkpoint) == [batch + 1]
    assert signal.getsignal(signal.SIGTERM) is before


def test_failed_saves_are_reported_and_the_third_consecutive_one_stops_training(fit, begun):
    lines = []
    checkpoint = begun(every_batches=1, background=False, report=lines.append)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: batch == 1 and resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    )
    try:
        with pytest.raises(OSError, match="File too large"):
            fit(full, checkpoint)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(lines) == 3
    assert "intact" in lines[0]
    assert os.listdir(checkpoint.files.folder) == [Progress(batches=1).name]


def test_intervals_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="every_minutes.*-1"):
        ExactCheckpoint(CheckpointFiles(tmp_path), 3, every_minutes=-1)


def test_processes_that_train_together_stop_after_the_same_batch(tmp_path):
    together = [ExactCheckpoint(CheckpointFiles(tmp_path), 100, writes=False, processes=2) for _ in range(2)]
    for checkpoint in together:
        checkpoint.start_at(Progress(), None)
        checkpoint.on_epoch_begin(0)
    ended = {}
    for batch in range(30):
        if batch == 4:
            together[1].request_end()
        for number, checkpoint in enumerate(together):
            if number not in ended:
                try:
                    checkpoint.on_train_batch_end(batch)
                except Preempted as preempted:
                    ended[number] = preempted.progress.batches
    assert ended == {0: 15, 1: 15}
