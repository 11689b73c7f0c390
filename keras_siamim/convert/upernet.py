"""Name table of UPerNet: the weight names and layouts of mmsegmentation."""

import keras

from keras_siamim.convert.names import (
    NameTable,
    Slot,
    batch_norm_names,
    convolution_names,
    dense_names,
    norm_names,
    patch_embedding_names,
)


def _unit_names(unit, name):
    return {**convolution_names(unit.convolution, f"{name}.conv"), **batch_norm_names(unit.norm, f"{name}.bn")}


def feature_map_names(backbone: keras.layers.Layer, prefix: str = "backbone.") -> NameTable:
    """Return the name table of a `FeatureMaps` backbone.

    Args:
        backbone: Built `segmentation.backbone.FeatureMaps`.
        prefix: String. First part of every name. Defaults to `"backbone."`.
    """
    table = {
        f"{prefix}cls_token": Slot(backbone.class_token.token),
        f"{prefix}pos_embed": Slot(backbone.positions.embedding),
        **patch_embedding_names(backbone.patch_embedding, f"{prefix}patch_embed.projection"),
    }
    for index, block in enumerate(backbone.blocks):
        name = f"{prefix}layers.{index}"
        table |= {
            **norm_names(block.norm_1, f"{name}.ln1"),
            f"{name}.attn.relative_position_bias_table": Slot(block.attention.bias_table),
            **dense_names(block.attention.qkv, f"{name}.attn.qkv"),
            **dense_names(block.attention.projection, f"{name}.attn.proj"),
            f"{name}.gamma_1": Slot(block.scale_1.scale),
            **norm_names(block.norm_2, f"{name}.ln2"),
            **dense_names(block.mlp.expand, f"{name}.ffn.layers.0.0"),
            **dense_names(block.mlp.reduce, f"{name}.ffn.layers.1"),
            f"{name}.gamma_2": Slot(block.scale_2.scale),
        }
    return table


def head_names(neck: keras.layers.Layer, head: keras.layers.Layer, auxiliary_head: keras.layers.Layer) -> NameTable:
    """Return the name table of UPerNet's neck and heads.

    Args:
        neck: Built `MultiScaleNeck`.
        head: Built `UPerHead`.
        auxiliary_head: Built `AuxiliaryHead`.
    """
    table = {
        **convolution_names(neck.up_4_first, "neck.upsample_4x.0"),
        **batch_norm_names(neck.norm, "neck.upsample_4x.1"),
        **convolution_names(neck.up_4_second, "neck.upsample_4x.3"),
        **convolution_names(neck.up_2, "neck.upsample_2x.0"),
        **convolution_names(head.logits, "decode_head.conv_seg"),
        **_unit_names(head.pooled_fusion, "decode_head.bottleneck"),
        **_unit_names(head.fusion, "decode_head.fpn_bottleneck"),
        **convolution_names(auxiliary_head.logits, "auxiliary_head.conv_seg"),
        **_unit_names(auxiliary_head.unit, "auxiliary_head.convs.0"),
    }
    for layers, name in (
        (head.pooled, "psp_modules.{}.1"),
        (head.laterals, "lateral_convs.{}"),
        (head.outputs, "fpn_convs.{}"),
    ):
        for index, layer in enumerate(layers):
            table |= _unit_names(layer, f"decode_head.{name.format(index)}")
    return table


def upernet_names(model: keras.Model) -> NameTable:
    """Return the name table of a `UPerNet` in mmsegmentation.

    Args:
        model: `keras_siamim.segmentation.UPerNet`.
    """
    return {
        **feature_map_names(model.backbone),
        **head_names(model.neck, model.head, model.auxiliary_head),
    }
