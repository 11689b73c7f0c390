"""Name tables of ViTDet: the weight names and layouts of detectron2."""

import keras

from keras_siamim.convert.names import NameTable, Slot, block_names, convolution_names, norm_names


def _unit_names(unit, name):
    return {**convolution_names(unit.convolution, name), **norm_names(unit.norm, f"{name}.norm")}


def vitdet_backbone_names(backbone: keras.layers.Layer, pyramid: keras.layers.Layer, prefix: str = "") -> NameTable:
    """Return the name table of ViTDet's backbone and pyramid.

    Args:
        backbone: Built `detection.backbone.WindowedViT`.
        pyramid: Built `detection.pyramid.SimpleFeaturePyramid`.
        prefix: String. First part of every name. Defaults to an empty one.
    """
    table = {
        f"{prefix}net.pos_embed": Slot(backbone.positions.embedding),
        f"{prefix}net.patch_embed.proj.weight": Slot(backbone.patch_embedding.kernel, "patch"),
        f"{prefix}net.patch_embed.proj.bias": Slot(backbone.patch_embedding.bias),
        **convolution_names(pyramid.level_2_up_first, f"{prefix}simfp_2.0"),
        **norm_names(pyramid.level_2_norm, f"{prefix}simfp_2.1"),
        **convolution_names(pyramid.level_2_up_second, f"{prefix}simfp_2.3"),
        **convolution_names(pyramid.level_3_up, f"{prefix}simfp_3.0"),
    }
    for index, block in enumerate(backbone.blocks):
        name = f"{prefix}net.blocks.{index}"
        table |= {
            **block_names(block, name),
            f"{name}.attn.rel_pos_h": Slot(block.attention.row_table),
            f"{name}.attn.rel_pos_w": Slot(block.attention.column_table),
        }
    # PyTorch numbers what precedes the lateral convolution, such as the pooling of level 5, but nothing on level 4.
    for level, first, lateral, output in zip(
        (2, 3, 4, 5), (4, 1, 0, 1), pyramid.laterals, pyramid.outputs, strict=True
    ):
        table |= _unit_names(lateral, f"{prefix}simfp_{level}.{first}")
        table |= _unit_names(output, f"{prefix}simfp_{level}.{first + 1}")
    return table
