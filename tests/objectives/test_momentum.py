"""When the target moves, by how much, and when it must not."""

import numpy as np
import pytest
from keras import ops

from keras_siamim import AdamW, SiameseIM
from tests.nano import compiled_nano_model, nano_batch, nano_encoder, nano_moco, nano_model

momentum_objectives = pytest.mark.parametrize("build", [nano_model, nano_moco], ids=["SiameseIM", "MoCoV3"])


def weights(variables):
    return [ops.convert_to_numpy(v).copy() for v in variables]


def pull_apart(model):
    """Give the online branch weights of its own, so that a momentum update shows."""
    for variable in model._online_weights:
        variable.assign(variable + 1.0)


@momentum_objectives
def test_the_target_moves_by_momentum_before_the_step(build):
    model = build(target_momentum=0.75)
    model.compile(AdamW(1e-2))
    pull_apart(model)
    target, online = weights(model._target_weights), weights(model._online_weights)
    model.train_on_batch(nano_batch())
    for old, source, new in zip(target, online, weights(model._target_weights), strict=True):
        np.testing.assert_allclose(new, 0.75 * old + 0.25 * source, atol=1e-6)


@momentum_objectives
def test_momentum_0_makes_the_target_the_online_branch(build):
    model = build(target_momentum=0.0)
    pull_apart(model)
    model.update_target()
    for online, target in zip(weights(model._online_weights), weights(model._target_weights), strict=True):
        np.testing.assert_allclose(target, online, atol=1e-6)


def test_momentum_1_holds_the_target():
    model = nano_model(target_momentum=1.0)
    pull_apart(model)
    before = weights(model._target_weights)
    model.update_target()
    for old, new in zip(before, weights(model._target_weights), strict=True):
        np.testing.assert_array_equal(new, old)


def test_the_target_moves_once_an_optimizer_step():
    """With accumulation over two batches it moves before batches 0 and 2 by the momentum of steps 0 and 1."""
    momenta = np.array([0.5, 0.25], dtype="float32")
    model = nano_model(target_momentum=lambda step: ops.take(ops.convert_to_tensor(momenta), step))
    model.compile(AdamW(0.0, weight_decay=0.0, gradient_accumulation_steps=2))
    start = weights(model._target_weights)
    pull_apart(model)
    expected = [0.5, 0.5, 0.875, 0.875]  # how far it has come
    for batch, way in enumerate(expected):
        model.train_on_batch(nano_batch(seed=batch))
        for old, new in zip(start, weights(model._target_weights), strict=True):
            np.testing.assert_allclose(new, old + way, atol=1e-5)


def test_evaluate_and_predict_move_nothing_but_metrics():
    model = nano_moco(target_momentum=0.5)
    model.compile(AdamW(1e-2))
    pull_apart(model)
    before = model.get_weights()
    model.evaluate(nano_batch(), verbose=0)
    model.predict(nano_batch(), verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_momentum_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"`target_momentum` must be in \[0, 1\] or a schedule. Received: 1.5"):
        nano_moco(target_momentum=1.5)


@pytest.mark.parametrize("part", ["target", "encoder"])
def test_a_model_whose_target_or_patch_embedding_was_thawed_is_not_trained(part):
    model = compiled_nano_model()
    before = model.get_weights()
    for trainable in (False, True):  # TensorFlow ignores a flag that is set to what it is
        getattr(model, part).trainable = trainable
    with pytest.raises(ValueError, match="`trainable` must stay False for the target branch"):
        model.fit(nano_batch(), verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_all_weights_of_a_frozen_encoder_are_averaged_too():
    encoder = nano_encoder()
    encoder.trainable = False
    model, usual = SiameseIM(encoder, decoder_width=16, decoder_heads=2, projector_depth=1), nano_model()
    assert len(model._target_weights) == len(usual._target_weights)
    assert not any(variable.trainable for variable in model.target.variables)


def test_a_new_run_begins_its_momentum_schedule_again():
    model = compiled_nano_model()
    model.train_on_batch(nano_batch())
    model.restart_schedule(0.5)
    assert int(ops.convert_to_numpy(model.batches_seen)) == 0
    assert float(ops.convert_to_numpy(model.momentum_at(0))) == 0.5
