"""Conversion of an encoder to KerasHub."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_siamim.backbones import ViTEncoder
from keras_siamim.convert.save import encoder_weights


def to_keras_hub(encoder: ViTEncoder, **overrides: Any) -> keras.Model:
    """Convert an encoder to KerasHub's `ViTBackbone`, for use in KerasHub's tasks. Needs `keras-hub`.

    The backbone stores positions as weights and accepts images of the encoder's size only. It always ends with a
    LayerNorm: for an encoder without one, such as SiameseIM's, it returns standardized tokens. LayerScale is
    multiplied into the preceding dense layers.

    Args:
        encoder: `ViTEncoder`. The encoder to convert.
        **overrides: Further arguments of `ViTBackbone`, such as `dropout_rate` or `dtype`.

    Returns:
        `keras_hub.models.ViTBackbone` from images (batch, height, width, channels) to tokens
        (batch, 1 + patches, width).

    Example:
        >>> encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=1, num_heads=1)
        >>> to_keras_hub(encoder)(np.zeros((1, 16, 16, 3))).shape
        TensorShape([1, 5, 8])
    """
    from keras_hub.models import ViTBackbone

    backbone = ViTBackbone(
        image_shape=encoder.image_shape,
        patch_size=encoder.patch_size,
        num_layers=encoder.depth,
        num_heads=encoder.num_heads,
        hidden_dim=encoder.width,
        mlp_dim=int(encoder.width * encoder.mlp_ratio),
        layer_norm_epsilon=1e-6,
        data_format=encoder.data_format,
        **overrides,
    )
    embedding = backbone.get_layer("vit_patching_and_embedding")
    weights = encoder_weights(encoder)
    embedding.class_token.assign(weights["cls_token"])
    embedding.position_embedding.embeddings.assign(weights["pos_embed"][0])
    embedding.patch_embedding.kernel.assign(weights["patch_embed.proj.weight"].transpose(2, 3, 1, 0))
    embedding.patch_embedding.bias.assign(weights["patch_embed.proj.bias"])
    layers = backbone.get_layer("vit_encoder")
    for source, target in zip(encoder.blocks, layers.encoder_layers, strict=True):
        _copy_block(source, target)
    if encoder.norm is not None:
        _copy(encoder.norm, layers.layer_norm, ("gamma", "beta"))
    return backbone


def _copy(source, target, names, scale=1.0):
    for name in names:
        getattr(target, name).assign(ops.convert_to_numpy(getattr(source, name)) * scale)


def _copy_block(source, target):
    scale_1, scale_2 = (
        1.0 if layer is None else ops.convert_to_numpy(layer.scale) for layer in (source.scale_1, source.scale_2)
    )
    _copy(source.norm_1, target.layer_norm_1, ("gamma", "beta"))
    _copy(source.norm_2, target.layer_norm_2, ("gamma", "beta"))
    _copy(source.mlp.expand, target.mlp.dense_1, ("kernel", "bias"))
    _copy(source.mlp.reduce, target.mlp.dense_2, ("kernel", "bias"), scale_2)
    attention, qkv = target.mha, source.attention.qkv
    kernel, bias = (ops.convert_to_numpy(weight) for weight in (qkv.kernel, qkv.bias))
    for index, dense in enumerate((attention.query_dense, attention.key_dense, attention.value_dense)):
        dense.kernel.assign(np.split(kernel, 3, axis=1)[index].reshape(dense.kernel.shape))
        dense.bias.assign(np.split(bias, 3)[index].reshape(dense.bias.shape))
    output = attention.output_dense
    projection = source.attention.projection
    output.kernel.assign((ops.convert_to_numpy(projection.kernel) * scale_1).reshape(output.kernel.shape))
    output.bias.assign(ops.convert_to_numpy(projection.bias) * scale_1)
