"""A training step is the same in every mode of Keras, and a run is reproducible by its seed."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim.data.masking import Masking
from keras_siamim.data.pipeline import training_batches
from keras_siamim.data.sources import digits_source
from keras_siamim.data.views.paired_views import PairedViews
from tests.nano import GRID, IMAGE_SIZE, compiled_nano_model, nano_batch

BACKEND = keras.config.backend()


def losses(steps=3, **compile_arguments):
    keras.utils.set_random_seed(1)
    model = compiled_nano_model(**compile_arguments)
    result = []
    for step in range(steps):
        model.reset_metrics()
        result.append(model.train_on_batch(nano_batch(seed=step), return_dict=True)["loss"])
    return np.array(result)


@pytest.fixture(scope="module")
def usual_losses():
    return losses()


@pytest.mark.parametrize(
    "mode",
    [{"run_eagerly": True}] + ([] if BACKEND == "torch" else [{"jit_compile": True}, {"jit_compile": False}]),
    ids=str,
)
def test_compiled_and_eager_steps_agree(mode, usual_losses):
    np.testing.assert_allclose(losses(**mode), usual_losses, rtol=2e-5)


def test_several_steps_per_execution_are_the_same_steps():
    weights = []
    for count in (1,) if BACKEND == "torch" else (1, 2):  # PyTorch supports 1 only
        keras.utils.set_random_seed(1)
        model = compiled_nano_model(steps_per_execution=count)
        model.fit(nano_batch(16), batch_size=4, epochs=1, shuffle=False, verbose=0)
        assert int(ops.convert_to_numpy(model.batches_seen)) == 4
        weights.append(model.get_weights())
    for first, second in zip(weights[0], weights[-1], strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)


def digit_run():
    """Losses of two short epochs on real digits, shuffled, cropped and masked in parallel."""
    keras.utils.set_random_seed(7)
    views, masking = PairedViews(IMAGE_SIZE, seed=7), Masking(GRID, num_masked=4, min_block=1)
    batches = training_batches(digits_source(), views, masking, batch_size=16, seed=7)
    history = compiled_nano_model().fit(batches, epochs=2, steps_per_epoch=5, shuffle=False, verbose=0)
    return history.history["loss"]


def test_runs_with_the_same_seed_are_identical_bit_for_bit():
    assert digit_run() == digit_run()


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_trains_with_float32_targets(dtype):
    model = compiled_nano_model(dtype)
    batch = nano_batch()
    outputs = model(batch, training=True)
    assert keras.backend.standardize_dtype(outputs["target"].dtype) == "float32"
    before = [ops.convert_to_numpy(v) for v in model.target.trainable_variables + model.target.non_trainable_variables]
    logs = [model.train_on_batch(batch, return_dict=True) for _ in range(4)]
    # The initial loss scale is too large and skips steps; a skipped step has no loss.
    assert [bool(np.isfinite(each["loss"])) for each in logs] == [each["skipped_in_a_row"] == 0 for each in logs]
    assert np.isfinite(logs[-1]["loss"])
    after = [ops.convert_to_numpy(v) for v in model.target.trainable_variables + model.target.non_trainable_variables]
    assert any(np.abs(a - b).max() > 0 for a, b in zip(after, before, strict=True) if a.dtype == "float32")


def test_the_target_moves_by_less_than_bfloat16_resolves():
    """With a momentum near 1, an update in bfloat16 would round to zero."""
    model = compiled_nano_model("mixed_bfloat16")
    model.target_momentum = 0.9999
    target, online = model._target_weights[-3], model._online_weights[-3]
    start = ops.convert_to_numpy(target)
    online.assign(online + 1.0)
    model.update_target()
    np.testing.assert_allclose(ops.convert_to_numpy(target) - start, 1e-4, rtol=1e-2)
