"""Our encoder as KerasHub's."""

import numpy as np
from keras import ops

from keras_siamim.convert.save import encoder_weights


def to_keras_hub(encoder, **overrides):
    """The same weights in KerasHub's `ViTBackbone`, so that its tasks take them. Needs `keras-hub`.

    KerasHub's positions are weights: the backbone takes images of the encoder's size only. Its final LayerNorm can't be
    left out: of an encoder that has none, as SiameseIM's, the backbone gives the standardized tokens. LayerScale goes
    into the dense layers that it follows.

    Args:
        encoder: A `ViTEncoder`.
        **overrides: Further arguments of `ViTBackbone`, such as `dropout_rate` or `dtype`.

    Returns:
        A `keras_hub.models.ViTBackbone`, images (batch, height, width, channels) to tokens (batch, 1 + patches, width).
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
    for ours, theirs in zip(encoder.blocks, layers.encoder_layers, strict=True):
        _copy_block(ours, theirs)
    if encoder.norm is not None:
        _copy(encoder.norm, layers.layer_norm, ("gamma", "beta"))
    return backbone


def _copy(ours, theirs, names, scale=1.0):
    for name in names:
        getattr(theirs, name).assign(ops.convert_to_numpy(getattr(ours, name)) * scale)


def _copy_block(ours, theirs):
    scale_1, scale_2 = (
        1.0 if layer is None else ops.convert_to_numpy(layer.scale) for layer in (ours.scale_1, ours.scale_2)
    )
    _copy(ours.norm_1, theirs.layer_norm_1, ("gamma", "beta"))
    _copy(ours.norm_2, theirs.layer_norm_2, ("gamma", "beta"))
    _copy(ours.mlp.expand, theirs.mlp.dense_1, ("kernel", "bias"))
    _copy(ours.mlp.reduce, theirs.mlp.dense_2, ("kernel", "bias"), scale_2)
    attention = theirs.mha
    kernel, bias = (ops.convert_to_numpy(weight) for weight in (ours.attention.qkv.kernel, ours.attention.qkv.bias))
    for index, dense in enumerate((attention.query_dense, attention.key_dense, attention.value_dense)):
        dense.kernel.assign(np.split(kernel, 3, axis=1)[index].reshape(dense.kernel.shape))
        dense.bias.assign(np.split(bias, 3)[index].reshape(dense.bias.shape))
    output = attention.output_dense
    projection = ours.attention.projection
    output.kernel.assign((ops.convert_to_numpy(projection.kernel) * scale_1).reshape(output.kernel.shape))
    output.bias.assign(ops.convert_to_numpy(projection.bias) * scale_1)
