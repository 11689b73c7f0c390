"""MoCo v3, ViT-Tiny/4, for images of 32 pixels: `siamese_im_vit_tiny_32px` but for what MoCo v3 itself is.

    keras-siamim pretrain --recipe mocov3_vit_tiny_32px --data tfds:cifar10

Own to the objective: no masks; LayerNorm behind the encoder; MLPs in place of the decoder. Cost: about twice its
sibling's, counted in tokens times blocks. Expect: the loss starts near 5.0, 0.4 log(batch) a direction.
"""

import dataclasses

from keras_siamim.recipes import siamese_im_vit_tiny_32px

SIBLING = siamese_im_vit_tiny_32px.RECIPE

RECIPE = dataclasses.replace(
    SIBLING,
    objective="MoCoV3",
    encoder={**SIBLING.encoder, "final_norm": True},
    model={"projector_width": 1024, "embedding_width": 256},
    masking=None,
)
