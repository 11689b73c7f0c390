"""What PyTorch programs call our weights, and how they lay them out.

A *name table* maps a PyTorch name to a `Slot`: our variable and the layout that separates the two. The block names are
timm's, which the authors of SiameseIM, MAE and MoCo v3 share.
"""

from typing import NamedTuple

import numpy as np
from keras import ops

from keras_siamim.layers import TokenBatchNorm


class Slot(NamedTuple):
    """One of our variables and its layout there: `same`, `dense` (out, in) or `patch` (out, in, row, column)."""

    variable: object
    layout: str = "same"


def to_keras(array, slot):
    """A PyTorch array in our layout.

    Raises:
        ValueError: If it does not fit the variable.
    """
    array = np.asarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"the array holds {array.dtype}, not floats")
    if not np.isfinite(array).all():
        raise ValueError("the array holds NaN or infinity")
    shape = tuple(slot.variable.shape)
    if slot.layout == "dense" and array.ndim == 2:
        array = array.T
    elif slot.layout == "patch" and array.ndim == 4:
        array = array.transpose(2, 3, 1, 0).reshape(-1, array.shape[0])
    if array.size != np.prod(shape) or (array.shape != shape and slot.layout != "same"):
        raise ValueError(f"the array of shape {array.shape} does not fit the weight of shape {shape}")
    return array.reshape(shape)


def to_torch(slot, channels=3):
    """Our variable as a NumPy array in PyTorch's layout."""
    array = ops.convert_to_numpy(slot.variable)
    if slot.layout == "dense":
        return array.T
    if slot.layout == "patch":
        side = int(round((array.shape[0] / channels) ** 0.5))
        return array.reshape(side, side, channels, -1).transpose(3, 2, 0, 1)
    return array


def dense_names(layer, name):
    """Name table of a dense layer."""
    table = {f"{name}.weight": Slot(layer.kernel, "dense")}
    if layer.bias is not None:
        table[f"{name}.bias"] = Slot(layer.bias)
    return table


def norm_names(layer, name):
    """Name table of a LayerNorm, or of a token BatchNorm, whose weights the authors keep one level deeper."""
    if isinstance(layer, TokenBatchNorm):
        return batch_norm_names(layer, f"{name}.bn")
    return {f"{name}.weight": Slot(layer.gamma), f"{name}.bias": Slot(layer.beta)}


def batch_norm_names(layer, name):
    """Name table of a BatchNorm."""
    table = {f"{name}.running_mean": Slot(layer.moving_mean), f"{name}.running_var": Slot(layer.moving_variance)}
    if layer.affine:
        table |= {f"{name}.weight": Slot(layer.gamma), f"{name}.bias": Slot(layer.beta)}
    return table


def block_names(block, name):
    """Name table of a transformer block."""
    table = {
        **norm_names(block.norm_1, f"{name}.norm1"),
        **dense_names(block.attention.qkv, f"{name}.attn.qkv"),
        **dense_names(block.attention.projection, f"{name}.attn.proj"),
        **norm_names(block.norm_2, f"{name}.norm2"),
        **dense_names(block.mlp.expand, f"{name}.mlp.fc1"),
        **dense_names(block.mlp.reduce, f"{name}.mlp.fc2"),
    }
    if block.scale_1 is not None:
        table |= {f"{name}.ls1.gamma": Slot(block.scale_1.scale), f"{name}.ls2.gamma": Slot(block.scale_2.scale)}
    return table


def blocks_names(blocks, name):
    """Name table of a list of blocks."""
    return {key: slot for i, block in enumerate(blocks) for key, slot in block_names(block, f"{name}.{i}").items()}


def encoder_names(encoder, prefix=""):
    """Name table of a `ViTEncoder`; sine-cosine positions are no weight of ours and have no entry."""
    table = {
        f"{prefix}cls_token": Slot(encoder.class_token.token),
        f"{prefix}patch_embed.proj.weight": Slot(encoder.patch_embedding.kernel, "patch"),
        f"{prefix}patch_embed.proj.bias": Slot(encoder.patch_embedding.bias),
        **blocks_names(encoder.blocks, f"{prefix}blocks"),
    }
    if encoder.learned_positions is not None:
        table[f"{prefix}pos_embed"] = Slot(encoder.learned_positions.embedding)
    if encoder.norm is not None:
        table |= norm_names(encoder.norm, f"{prefix}norm")
    return table


def siamese_im_names(model):
    """Name table of a `SiameseIM` in the authors' program: online names are bare, the target's start with `mm_`."""
    table = {}
    branches = ((model.online, ""), (model.target, "mm_"))
    for branch, prefix in branches if model.target is not None else branches[:1]:
        table |= {
            **encoder_names(branch.encoder, prefix),
            **dense_names(branch.embedding, f"{prefix}decoder_embed"),
            **blocks_names(branch.projector, f"{prefix}projector_decoder_blocks"),
            f"{prefix}mask_token": Slot(branch.mask_token.token),
        }
    table |= {
        **dense_names(model.position_projection, "decoder_pos_mlp"),
        **blocks_names(model.decoder, "predictor_decoder_blocks"),
        **dense_names(model.head, "decoder_pred"),
    }
    if model.prediction_norm is not None:
        table |= norm_names(model.prediction_norm, "student_norm")
    return table


def mae_names(model):
    """Name table of a `MAE` in the authors' program."""
    return {
        **encoder_names(model.encoder),
        **dense_names(model.embedding, "decoder_embed"),
        "mask_token": Slot(model.mask_token.token),
        **blocks_names(model.decoder, "decoder_blocks"),
        **norm_names(model.decoder_norm, "decoder_norm"),
        **dense_names(model.head, "decoder_pred"),
    }


def mlp_head_names(head, name):
    """Name table of an `MlpHead`, whose dense layers, norms and activations are numbered through."""
    table = {}
    for index, (dense, norm) in enumerate(zip(head.dense, head.norms, strict=True)):
        table |= {**dense_names(dense, f"{name}.{3 * index}"), **batch_norm_names(norm, f"{name}.{3 * index + 1}")}
    return table


def moco_v3_names(model):
    """Name table of a `MoCoV3` in the authors' program."""
    table = mlp_head_names(model.predictor, "predictor")
    for branch, name in ((model.online, "base_encoder"), (model.target, "momentum_encoder")):
        table |= {**encoder_names(branch.encoder, f"{name}."), **mlp_head_names(branch.projector, f"{name}.head")}
    return table
