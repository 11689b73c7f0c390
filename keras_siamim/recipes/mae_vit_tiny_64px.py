"""MAE, ViT-Tiny/8, for images of 64 pixels: `siamese_im_vit_tiny_64px` but for what MAE itself is.

    keras-siamim pretrain --recipe mae_vit_tiny_64px --data path/to/images

Cost and expectation: as `mae_vit_tiny_32px`, whose grid of 8 x 8 patches it shares.
"""

from keras_siamim.recipes import mae_vit_tiny_32px

RECIPE = mae_vit_tiny_32px.RECIPE.override({"image_size": 64, "encoder.patch_size": 8})
