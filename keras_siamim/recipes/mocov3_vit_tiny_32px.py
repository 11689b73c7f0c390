"""MoCo v3, ViT-Tiny/4, for images of 32 pixels: the baseline for `siamese_im_vit_tiny_32px`.

    keras-siamim pretrain --recipe mocov3_vit_tiny_32px --data tfds:cifar10

Only the settings that belong to the objective differ: no masks, LayerNorm after the encoder, and MLPs in place of the
decoder. Cost: about twice `siamese_im_vit_tiny_32px`, counted as tokens x blocks. Expected result: the loss starts near
5.0, which is 0.4 log(batch size) per direction.
"""

import dataclasses

from keras_siamim.recipes import siamese_im_vit_tiny_32px

SIAMESE_IM = siamese_im_vit_tiny_32px.RECIPE

RECIPE = dataclasses.replace(
    SIAMESE_IM,
    objective="MoCoV3",
    encoder={**SIAMESE_IM.encoder, "final_norm": True},
    model={"projector_width": 1024, "embedding_width": 256},
    masking=None,
)
