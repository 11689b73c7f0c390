"""MAE, ViT-Tiny/4, for images of 32 pixels: `siamese_im_vit_tiny_32px` but for what MAE itself is.

    keras-siamim pretrain --recipe mae_vit_tiny_32px --data tfds:cifar10

Own to the objective: one view, cut and flipped but not recolored; random masks of 75 %; LayerNorm behind the encoder;
no target. Cost: about four tenths of its sibling's, counted in tokens times blocks. Expect: the loss starts near 1.2.
"""

import dataclasses

from keras_siamim.recipes import siamese_im_vit_tiny_32px

SIBLING = siamese_im_vit_tiny_32px.RECIPE

RECIPE = dataclasses.replace(
    SIBLING,
    objective="MAE",
    target_momentum=None,
    encoder={**SIBLING.encoder, "final_norm": True},
    model={"decoder_width": 192, "decoder_heads": 3, "decoder_depth": 4},
    view_1={**SIBLING.view_1, "jitter_probability": 0.0, "gray_probability": 0.0, "blur_probability": 0.0},
    view_2=None,
    masking={"mask_ratio": 0.75, "mode": "random"},
)
