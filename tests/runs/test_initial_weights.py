"""Initial weights of a run from other models."""

import numpy as np
import pytest
import torch
from keras import ops

from keras_siamim import ConvNeXtEncoder, SiameseIM, ViTEncoder
from keras_siamim.convert import encoder_weights
from keras_siamim.convert.names import siamese_im_names, to_torch
from keras_siamim.ops import interpolate_positions, sincos_position_table
from keras_siamim.runs.initial_weights import copy_encoder, read_initial_weights
from tests.nano import nano_encoder, nano_mae, nano_model

# Copies of weights do not depend on the backend, and PyTorch compiles nothing.
pytestmark = pytest.mark.one_backend("torch")


def values_of(model):
    return [ops.convert_to_numpy(weight) for weight in model.weights]


def saved_after_a_step(tmp_path, **changes):
    """Save a model whose target differs from its online branch, and return it with its path."""
    model = nano_model(**changes)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.1)
    model.save(tmp_path / "model.keras")
    return model, str(tmp_path / "model.keras")


def test_a_run_of_the_same_recipe_gives_all_its_weights(tmp_path):
    source, path = saved_after_a_step(tmp_path)
    model = nano_model()
    lines = read_initial_weights(path, model.encoder).apply(model)
    for one, other in zip(values_of(source), values_of(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert "target: taken, encoder and projector" in lines
    assert not any("starts anew" in line for line in lines)


def test_the_folder_of_a_run_is_read_as_its_complete_model(tmp_path):
    source, _ = saved_after_a_step(tmp_path)
    source.encoder.save(tmp_path / "encoder.keras")
    weights = read_initial_weights(str(tmp_path), nano_model().encoder)
    assert weights.target is not None
    assert len(weights.sha256) == 64


def test_another_decoder_starts_anew_and_its_target_as_a_copy(tmp_path):
    _, path = saved_after_a_step(tmp_path)
    model = nano_model(decoder_width=32)
    lines = read_initial_weights(path, model.encoder).apply(model)
    assert "target: starts as a copy of the online branch" in lines
    assert any(line.startswith("starts anew") and "decoder_0" in line for line in lines)
    for one, other in zip(model.online.trainable_variables, model.target.variables, strict=False):
        if one.path.split("/", 1)[1] == other.path.split("/", 1)[1]:
            np.testing.assert_array_equal(*(ops.convert_to_numpy(x) for x in (one, other)))


def test_another_objective_gives_its_encoder(tmp_path):
    source = nano_mae()
    source.save(tmp_path / "mae.keras")
    model = nano_model()
    lines = read_initial_weights(str(tmp_path / "mae.keras"), model.encoder).apply(model)
    assert "left out, since the encoder has none: norm" in lines
    kernel = "block_0/attention/qkv/kernel"
    found = [next(w for w in encoder.weights if w.path.endswith(kernel)) for encoder in (source.encoder, model.target)]
    np.testing.assert_array_equal(*(ops.convert_to_numpy(weight) for weight in found))


@pytest.mark.parametrize("complete", [True, False])
def test_a_checkpoint_of_the_authors_gives_both_branches(tmp_path, complete):
    def square():
        encoder = ViTEncoder(16, 8, width=12, depth=2, num_heads=3)
        return SiameseIM(encoder, decoder_width=16, decoder_heads=2, projector_depth=1, decoder_depth=1)

    source = square()
    for variable in (*source.online.trainable_variables, *source.decoder[0].trainable_variables):
        variable.assign(variable + 0.1)
    state = {name: torch.tensor(to_torch(slot).copy()) for name, slot in siamese_im_names(source).items()}
    table = np.concatenate([np.zeros((1, 12), "float32"), sincos_position_table((2, 2), 12)])
    state["pos_embed"] = torch.tensor(table[None])
    if not complete:
        del state["mm_decoder_embed.weight"]
    torch.save({"model": state}, tmp_path / "checkpoint.pth")
    model = square()
    lines = read_initial_weights(str(tmp_path / "checkpoint.pth"), model.encoder).apply(model)
    assert ("target: taken, encoder and projector" in lines) is complete
    np.testing.assert_array_equal(*(ops.convert_to_numpy(m.decoder[0].mlp.expand.kernel) for m in (source, model)))
    moved = ops.convert_to_numpy(model.target.encoder.class_token.token)
    expected = source.target if complete else source.online
    np.testing.assert_array_equal(moved, ops.convert_to_numpy(expected.encoder.class_token.token))


def test_weights_of_timm_s_vit_need_learned_positions(tmp_path, rng):
    changes = {"position_embedding": "learned", "layer_scale_init": 0.1}
    encoder = ViTEncoder(16, 8, width=12, depth=2, num_heads=3, **changes)
    torch.save(
        {name: torch.tensor(array.copy()) for name, array in encoder_weights(encoder).items()}, tmp_path / "a.pth"
    )
    weights = read_initial_weights(str(tmp_path / "a.pth"), encoder)
    with pytest.raises(ValueError, match="--set encoder.layer_scale_init=1.0 encoder.position_embedding=learned would"):
        weights.check(nano_encoder())
    larger = ViTEncoder(32, 8, width=12, depth=2, num_heads=3, **changes)
    weights.check(larger)
    copy_encoder(weights.encoder, larger)
    table = ops.convert_to_numpy(encoder.learned_positions.embedding)[0]
    resized = ops.convert_to_numpy(larger.learned_positions.embedding)[0]
    np.testing.assert_allclose(resized, interpolate_positions(table, (2, 2), (4, 4)), atol=1e-6)


def test_other_sizes_are_refused_with_the_settings_that_would_fit(tmp_path):
    _, path = saved_after_a_step(tmp_path)
    model = ViTEncoder(16, 8, width=24, depth=3, num_heads=3)
    with pytest.raises(ValueError, match="--set encoder.width=12 encoder.depth=2 would make them equal"):
        read_initial_weights(path, model).check(model)
    other = ConvNeXtEncoder(16, stem=2, widths=(4, 8), depths=(1, 1))
    with pytest.raises(ValueError, match="must have the recipe's encoder, ConvNeXtEncoder"):
        read_initial_weights(path, other).check(other)
