"""A step whose numbers are not finite is skipped as if its batch had never come, and counted."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim import AdamW
from tests.nano import NANO_OBJECTIVES, compiled_nano_model, nano_batch, nano_mae


def spoilt_batch():
    batch = nano_batch(seed=9)
    batch["view_1"][0] = np.nan
    return batch


def run(model, batches):
    """Logs of the last step; every one of them alone, as `fit` does it with an epoch of one step."""
    return [model.train_on_batch(batch, return_dict=True) for batch in batches]


@pytest.mark.parametrize("name", ["SiameseIM", "MAE"])
def test_a_spoilt_batch_leaves_the_run_as_it_would_have_been(name):
    clean, spoilt = (NANO_OBJECTIVES[name]() for _ in range(2))
    spoilt.set_weights(clean.get_weights())
    for model in (clean, spoilt):
        model.compile(AdamW(1e-2, global_clipnorm=1.0))
    run(clean, [nano_batch(seed=seed) for seed in (0, 1)])
    logs = run(spoilt, [nano_batch(seed=0), spoilt_batch(), spoilt_batch(), nano_batch(seed=1)])
    assert [int(each["skipped"]) for each in logs] == [0, 1, 2, 2]
    assert [int(each["skipped_in_a_row"]) for each in logs] == [0, 1, 2, 0]
    assert np.isfinite([each["loss"] for each in logs]).tolist() == [True, False, False, True]
    spoilt.skipped.assign(0)
    for one, other in zip(clean.weights, spoilt.weights, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(other), ops.convert_to_numpy(one), atol=1e-6, err_msg=one.path)
    for one, other in zip(clean.optimizer.variables, spoilt.optimizer.variables, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(other), ops.convert_to_numpy(one), atol=1e-6, err_msg=one.path)


def test_float16_counts_only_the_steps_that_its_loss_scale_lets_through():
    model = compiled_nano_model("mixed_float16")
    logs = run(model, [nano_batch(), spoilt_batch(), nano_batch()])
    skipped = int(logs[-1]["skipped"])
    assert skipped >= 1
    assert int(ops.convert_to_numpy(model.batches_seen)) == 3 - skipped
    assert all(np.isfinite(ops.convert_to_numpy(variable)).all() for variable in model.weights)


def test_an_epoch_of_skipped_steps_has_no_loss():
    model = compiled_nano_model()
    batches = [nano_batch(), nano_batch(seed=1), spoilt_batch(), spoilt_batch(), nano_batch(), spoilt_batch()]
    pairs = [((b,) for b in batches[i : i + 2]) for i in (0, 2, 4)]
    logs = [model.fit(pair, steps_per_epoch=2, shuffle=False, verbose=0).history for pair in pairs]
    for name in ("loss", *model.trackers):
        assert [bool(np.isnan(each[name][0])) for each in logs] == [False, True, False], name


def test_neither_is_the_best_checkpoint_made_nor_training_gone_on_after_such_an_epoch(tmp_path):
    model = compiled_nano_model()
    batches = [nano_batch(), spoilt_batch(), nano_batch()]
    options = {"mode": "min", "save_best_only": True, "save_weights_only": True}
    best = keras.callbacks.ModelCheckpoint(tmp_path / "best.weights.h5", "loss", **options)
    history = model.fit(
        ((batch,) for batch in batches),
        shuffle=False,
        steps_per_epoch=1,
        epochs=3,
        callbacks=[best, keras.callbacks.TerminateOnNaN()],
        verbose=0,
    ).history
    assert best.best == history["loss"][0]
    assert len(history["loss"]) == 2


def test_fit_logs_both_counts():
    model = nano_mae()
    model.compile(AdamW(1e-3))
    batches = [nano_batch(), spoilt_batch(), nano_batch(seed=1)]
    history = model.fit(((batch,) for batch in batches), steps_per_epoch=3, shuffle=False, verbose=0).history
    assert history["skipped"] == [1]
    assert history["skipped_in_a_row"] == [0]
