"""Name tables: PyTorch's weight names and layouts of this package's models.

A *name table* maps each PyTorch name to a `Slot`: the variable, and the layout of the PyTorch weight. Block names are
timm's, which the authors' programs of SiameseIM, MAE and MoCo v3 use too.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_siamim.backbones import ViTEncoder
from keras_siamim.layers import TokenBatchNorm
from keras_siamim.types import ArrayLike


class Slot(NamedTuple):
    """A variable and the layout of its PyTorch counterpart.

    Attributes:
        variable: `keras.Variable`.
        layout: `"same"`, `"dense"` for (out, in), `"patch"` for (out, in, row, column) of a patch embedding,
            `"convolution"` for (out, in, row, column) of other convolutions, or `"depthwise"` for
            (channel, 1, row, column). Defaults to `"same"`.
        patch_size: Integer. Side of the patches, for `"patch"`. Defaults to 1.

    Example:
        >>> Slot(keras.Variable(np.zeros(3))).layout
        'same'
    """

    variable: keras.Variable
    layout: str = "same"
    patch_size: int = 1


NameTable: TypeAlias = dict[str, Slot]


def to_keras(array: ArrayLike, slot: Slot) -> np.ndarray:
    """Convert a PyTorch weight to the layout of a variable.

    Args:
        array: Float array in the slot's layout.
        slot: `Slot`. The variable and its layout.

    Returns:
        Array of the variable's shape, in the dtype of `array`.

    Raises:
        ValueError: If the array does not fit the variable, is not floating point, or is not finite.

    Example:
        >>> to_keras(np.zeros((5, 3)), Slot(keras.Variable(np.zeros((3, 5))), "dense")).shape
        (3, 5)
    """
    array = np.asarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"`array` must be floating point. Received: {array.dtype}.")
    if not np.isfinite(array).all():
        raise ValueError("`array` must be finite. Received: NaN or infinity.")
    shape = tuple(slot.variable.shape)
    if slot.layout == "dense" and array.ndim == 2:
        array = array.T
    elif slot.layout == "patch" and array.ndim == 4:
        array = array.transpose(2, 3, 1, 0).reshape(-1, array.shape[0])
    elif slot.layout == "convolution" and array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)
    elif slot.layout == "depthwise" and array.ndim == 4:
        array = array.transpose(2, 3, 0, 1)
    if array.size != np.prod(shape) or (array.shape != shape and slot.layout != "same"):
        raise ValueError(f"`array` must fit a weight of shape {shape}. Received: the shape {array.shape}.")
    return array.reshape(shape)


def to_torch(slot: Slot) -> np.ndarray:
    """Return a variable's value in PyTorch's layout.

    Args:
        slot: `Slot`. The variable and its layout.

    Example:
        >>> to_torch(Slot(keras.Variable(np.zeros((3, 5))), "dense")).shape
        (5, 3)
    """
    array = ops.convert_to_numpy(slot.variable)
    if slot.layout == "dense":
        return array.T
    if slot.layout == "patch":
        return array.reshape(slot.patch_size, slot.patch_size, -1, array.shape[1]).transpose(3, 2, 0, 1)
    if slot.layout == "convolution":
        return array.transpose(3, 2, 0, 1)
    if slot.layout == "depthwise":
        return array.transpose(2, 3, 0, 1)
    return array


def dense_names(layer: keras.layers.Layer, name: str) -> NameTable:
    """Return the name table of a dense layer.

    Args:
        layer: Built dense layer.
        name: String. PyTorch's name of the layer.

    Example:
        >>> layer = keras.layers.Dense(5)
        >>> layer.build((None, 3))
        >>> list(dense_names(layer, "head"))
        ['head.weight', 'head.bias']
    """
    return _kernel_names(layer, name, "dense")


def patch_embedding_names(layer: keras.layers.Layer, name: str) -> NameTable:
    """Return the name table of a `PatchEmbedding`.

    Args:
        layer: Built layer.
        name: String. PyTorch's name of the convolution.

    Example:
        >>> encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=1, num_heads=1)
        >>> list(patch_embedding_names(encoder.patch_embedding, "proj"))
        ['proj.weight', 'proj.bias']
    """
    return {f"{name}.weight": Slot(layer.kernel, "patch", layer.patch_size), f"{name}.bias": Slot(layer.bias)}


def convolution_names(layer: keras.layers.Layer, name: str) -> NameTable:
    """Return the name table of a convolution or transposed convolution.

    Args:
        layer: Built `Conv2D` or `Conv2DTranspose`.
        name: String. PyTorch's name of the layer.

    Example:
        >>> layer = keras.layers.Conv2D(5, 3)
        >>> layer.build((None, 4, 4, 2))
        >>> list(convolution_names(layer, "conv"))
        ['conv.weight', 'conv.bias']
    """
    # PyTorch: (out, in, row, column), transposed (in, out, row, column). Keras: (row, column, in, out) and
    # (row, column, out, in). The same permutation of axes converts both.
    return _kernel_names(layer, name, "convolution")


def _kernel_names(layer, name, layout):
    table = {f"{name}.weight": Slot(layer.kernel, layout)}
    if layer.bias is not None:
        table[f"{name}.bias"] = Slot(layer.bias)
    return table


def norm_names(layer: keras.layers.Layer, name: str) -> NameTable:
    """Return the name table of a LayerNorm or `TokenBatchNorm`.

    Args:
        layer: Built layer.
        name: String. PyTorch's name of the layer. The authors keep a BatchNorm one level below, as `name.bn`.

    Example:
        >>> layer = keras.layers.LayerNormalization()
        >>> layer.build((None, 3))
        >>> list(norm_names(layer, "norm"))
        ['norm.weight', 'norm.bias']
    """
    if isinstance(layer, TokenBatchNorm):
        return batch_norm_names(layer, f"{name}.bn")
    return {f"{name}.weight": Slot(layer.gamma), f"{name}.bias": Slot(layer.beta)}


def batch_norm_names(layer: keras.layers.Layer, name: str) -> NameTable:
    """Return the name table of a `TokenBatchNorm`.

    Args:
        layer: Built layer.
        name: String. PyTorch's name of the layer.
    """
    table = {f"{name}.running_mean": Slot(layer.moving_mean), f"{name}.running_var": Slot(layer.moving_variance)}
    if layer.affine:
        table |= {f"{name}.weight": Slot(layer.gamma), f"{name}.bias": Slot(layer.beta)}
    return table


def block_names(block: keras.layers.Layer, name: str) -> NameTable:
    """Return the name table of a transformer block.

    Args:
        block: Built block.
        name: String. PyTorch's name of the block.

    Example:
        >>> encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=1, num_heads=1)
        >>> list(block_names(encoder.blocks[0], "blocks.0"))[2:4]
        ['blocks.0.attn.qkv.weight', 'blocks.0.attn.qkv.bias']
    """
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


def blocks_names(blocks: Sequence[keras.layers.Layer], name: str) -> NameTable:
    """Return the name table of a list of transformer blocks.

    Args:
        blocks: Built blocks.
        name: String. PyTorch's name of the list.

    Example:
        >>> encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=2, num_heads=1)
        >>> list(blocks_names(encoder.blocks, "blocks"))[-1]
        'blocks.1.mlp.fc2.bias'
    """
    return {key: slot for i, block in enumerate(blocks) for key, slot in block_names(block, f"{name}.{i}").items()}


def encoder_names(encoder: ViTEncoder, prefix: str = "") -> NameTable:
    """Return the name table of a `ViTEncoder`.

    Sine-cosine positions are constants and have no entry.

    Args:
        encoder: Built `ViTEncoder`.
        prefix: String. First part of every name. Defaults to an empty one.

    Example:
        >>> encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=1, num_heads=1)
        >>> list(encoder_names(encoder))[:2]
        ['cls_token', 'patch_embed.proj.weight']
    """
    table = {
        f"{prefix}cls_token": Slot(encoder.class_token.token),
        **patch_embedding_names(encoder.patch_embedding, f"{prefix}patch_embed.proj"),
        **blocks_names(encoder.blocks, f"{prefix}blocks"),
    }
    if encoder.learned_positions is not None:
        table[f"{prefix}pos_embed"] = Slot(encoder.learned_positions.embedding)
    if encoder.norm is not None:
        table |= norm_names(encoder.norm, f"{prefix}norm")
    return table


def siamese_im_names(model: keras.Model) -> NameTable:
    """Return the name table of a `SiameseIM` in the authors' program.

    Names of the online branch are bare; names of the target branch start with `mm_`.

    Args:
        model: Built `SiameseIM` or `SiameseIMAblation`. Without a target branch, only online names are returned.

    Example:
        >>> encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=1, num_heads=1)
        >>> model = SiameseIM(encoder, decoder_width=8, decoder_heads=1)
        >>> "mm_cls_token" in siamese_im_names(model)
        True
    """
    table: NameTable = {}
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


def mae_names(model: keras.Model) -> NameTable:
    """Return the name table of an `MAE` in the authors' program.

    Args:
        model: Built `MAE`.

    Example:
        >>> encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=1, num_heads=1, final_norm=True)
        >>> model = MAE(encoder, decoder_width=8, decoder_heads=1, decoder_depth=1)
        >>> "decoder_blocks.0.attn.qkv.weight" in mae_names(model)
        True
    """
    return {
        **encoder_names(model.encoder),
        **dense_names(model.embedding, "decoder_embed"),
        "mask_token": Slot(model.mask_token.token),
        **blocks_names(model.decoder, "decoder_blocks"),
        **norm_names(model.decoder_norm, "decoder_norm"),
        **dense_names(model.head, "decoder_pred"),
    }


def mlp_head_names(head: keras.layers.Layer, name: str) -> NameTable:
    """Return the name table of an `MlpHead`.

    Args:
        head: Built `MlpHead`.
        name: String. PyTorch's name of the sequence, which numbers dense layers, norms and activations.
    """
    table: NameTable = {}
    for index, (dense, norm) in enumerate(zip(head.dense, head.norms, strict=True)):
        table |= {**dense_names(dense, f"{name}.{3 * index}"), **batch_norm_names(norm, f"{name}.{3 * index + 1}")}
    return table


def moco_v3_names(model: keras.Model) -> NameTable:
    """Return the name table of a `MoCoV3` in the authors' program.

    Args:
        model: Built `MoCoV3`.

    Example:
        >>> encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=1, num_heads=1, final_norm=True)
        >>> model = MoCoV3(encoder, projector_width=8, embedding_width=4)
        >>> "momentum_encoder.cls_token" in moco_v3_names(model)
        True
    """
    table = mlp_head_names(model.predictor, "predictor")
    for branch, name in ((model.online, "base_encoder"), (model.target, "momentum_encoder")):
        table |= {**encoder_names(branch.encoder, f"{name}."), **mlp_head_names(branch.projector, f"{name}.head")}
    return table
