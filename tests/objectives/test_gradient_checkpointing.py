"""Memory for time: a model that recomputes its activations trains as one that keeps them."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim.layers import TransformerBlock
from tests.nano import compiled_nano_model, nano_batch


def test_recomputing_changes_no_number():
    # With a small epsilon, Adam would amplify the rounding errors of gradients that are zero, as of the biases of keys.
    keeping, recomputing = (compiled_nano_model(optimizer={"epsilon": 1e-3}) for _ in range(2))
    recomputing.set_weights(keeping.get_weights())
    recomputing.gradient_checkpointing = True
    assert recomputing.gradient_checkpointing
    assert not keeping.gradient_checkpointing
    for seed in (0, 1):
        losses = [model.train_on_batch(nano_batch(seed=seed)) for model in (keeping, recomputing)]
        np.testing.assert_allclose(*losses, rtol=1e-6)
    for one, other in zip(keeping.weights, recomputing.weights, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(other), ops.convert_to_numpy(one), atol=1e-6, err_msg=one.path)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_what_lies_inside_attention_and_mlp_is_not_kept(norm, rng):
    kept = []
    for gradient_checkpointing in (False, True):
        block = TransformerBlock(2, norm=norm)
        block.gradient_checkpointing = gradient_checkpointing
        block.build((2, 5, 8))
        kept.append(_kept_for_the_gradient(block, rng.normal(size=(2, 5, 8)).astype("float32")))
    # The MLP alone keeps eight widths; of a block there remain its input, its middle, and what the norms give.
    assert kept[1] < 0.5 * kept[0]


def _kept_for_the_gradient(block, x):
    """Numbers that the backend holds between forward and backward pass, weights left out."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        sizes = {}
        weights = {variable.value.data_ptr() for variable in block.weights}

        def pack(tensor):
            if tensor.data_ptr() not in weights:
                sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            y = block(ops.convert_to_tensor(x), training=True)
            del y
        return sum(sizes.values())
    if backend == "jax":
        from jax._src.ad_checkpoint import saved_residuals

        weights = [variable.value for variable in block.trainable_variables]

        def call(weights, x):
            with keras.StatelessScope(state_mapping=list(zip(block.trainable_variables, weights, strict=True))):
                return block(x, training=True)

        found = saved_residuals(call, weights, ops.convert_to_tensor(x))
        return sum(aval.size for aval, source in found if "argument weights" not in source)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        y = block(tf.constant(x), training=True)
    calls = []
    inner = type(block.mlp).call
    block.mlp.call = lambda *arguments, **options: calls.append(1) or inner(block.mlp, *arguments, **options)
    tape.gradient(y, block.mlp.expand.kernel.value)
    return 0.0 if calls else 1.0
