"""MAE, ViT-Tiny/4, for images of 32 pixels: the baseline for `siamese_im_vit_tiny_32px`.

    keras-siamim pretrain --recipe mae_vit_tiny_32px --data tfds:cifar10

Only the settings that belong to the objective differ: one view that is cropped and flipped without color changes,
random masks of 75%, LayerNorm after the encoder, and no target. Cost: about 40% of `siamese_im_vit_tiny_32px`, counted
as tokens x blocks. Expected result: the loss starts near 1.2.
"""

import dataclasses

from keras_siamim.recipes import siamese_im_vit_tiny_32px

SIAMESE_IM = siamese_im_vit_tiny_32px.RECIPE

RECIPE = dataclasses.replace(
    SIAMESE_IM,
    objective="MAE",
    target_momentum=None,
    encoder={**SIAMESE_IM.encoder, "final_norm": True},
    model={"decoder_width": 192, "decoder_heads": 3, "decoder_depth": 4},
    view_1={**SIAMESE_IM.view_1, "jitter_probability": 0.0, "gray_probability": 0.0, "blur_probability": 0.0},
    view_2=None,
    masking={"mask_ratio": 0.75, "mode": "random"},
)
