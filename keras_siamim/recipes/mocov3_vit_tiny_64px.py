"""MoCo v3, ViT-Tiny/8, for images of 64 pixels: the baseline for `siamese_im_vit_tiny_64px`.

    keras-siamim pretrain --recipe mocov3_vit_tiny_64px --data path/to/images

Cost and expected result: those of `mocov3_vit_tiny_32px`, which has the same grid of 8 x 8 patches.
"""

from keras_siamim.recipes import mocov3_vit_tiny_32px

RECIPE = mocov3_vit_tiny_32px.RECIPE.override({"image_size": 64, "encoder.patch_size": 8})
