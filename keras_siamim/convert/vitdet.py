"""Name tables of ViTDet: the weight names and layouts of detectron2."""

import keras

from keras_siamim.convert.names import (
    NameTable,
    Slot,
    block_names,
    convolution_names,
    dense_names,
    norm_names,
    patch_embedding_names,
)


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
        **patch_embedding_names(backbone.patch_embedding, f"{prefix}net.patch_embed.proj"),
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


def proposal_head_names(head: keras.layers.Layer, prefix: str = "rpn_head.") -> NameTable:
    """Return the name table of the head of a region proposal network.

    Args:
        head: Built `detection.proposals.ProposalHead`.
        prefix: String. First part of every name. Defaults to `"rpn_head."`.
    """
    table = {
        **convolution_names(head.logits, f"{prefix}objectness_logits"),
        **convolution_names(head.deltas, f"{prefix}anchor_deltas"),
    }
    for index, layer in enumerate(head.convolutions):
        table |= convolution_names(layer, f"{prefix}conv.conv{index}")
    return table


def region_head_names(heads: keras.layers.Layer, prefix: str = "") -> NameTable:
    """Return the name table of the box head and, if there is one, the mask head.

    Args:
        heads: Built `detection.regions.RegionHeads`.
        prefix: String. First part of every name. Defaults to an empty one.
    """
    box_head, mask_head = heads.box_head, heads.mask_head
    table = {
        **dense_names(box_head.dense, f"{prefix}box_head.fc1"),
        **dense_names(box_head.scores, f"{prefix}box_predictor.cls_score"),
        **dense_names(box_head.deltas, f"{prefix}box_predictor.bbox_pred"),
    }
    for index, unit in enumerate(box_head.convolutions, start=1):
        table |= _unit_names(unit, f"{prefix}box_head.conv{index}")
    if mask_head is not None:
        table |= convolution_names(mask_head.upsampling, f"{prefix}mask_head.deconv")
        table |= convolution_names(mask_head.logits, f"{prefix}mask_head.predictor")
        for index, unit in enumerate(mask_head.convolutions, start=1):
            table |= _unit_names(unit, f"{prefix}mask_head.mask_fcn{index}")
    return table


def mask_rcnn_names(model: keras.Model) -> NameTable:
    """Return the name table of a `MaskRCNN` in detectron2.

    Args:
        model: `keras_siamim.detection.MaskRCNN`.
    """
    return {
        **vitdet_backbone_names(model.backbone, model.pyramid, "backbone."),
        **proposal_head_names(model.proposal_head, "proposal_generator.rpn_head."),
        **region_head_names(model.heads, "roi_heads."),
    }
