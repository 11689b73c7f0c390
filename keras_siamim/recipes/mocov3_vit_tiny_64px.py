"""MoCo v3, ViT-Tiny/8, for images of 64 pixels: `siamese_im_vit_tiny_64px` but for what MoCo v3 itself is.

    keras-siamim pretrain --recipe mocov3_vit_tiny_64px --data path/to/images

Cost and expectation: as `mocov3_vit_tiny_32px`, whose grid of 8 x 8 patches it shares.
"""

from keras_siamim.recipes import mocov3_vit_tiny_32px

RECIPE = mocov3_vit_tiny_32px.RECIPE.override({"image_size": 64, "encoder.patch_size": 8})
