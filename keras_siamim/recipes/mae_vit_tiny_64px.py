"""MAE, ViT-Tiny/8, for images of 64 pixels: the baseline for `siamese_im_vit_tiny_64px`.

    keras-siamim pretrain --recipe mae_vit_tiny_64px --data path/to/images

Cost and expected result: those of `mae_vit_tiny_32px`, which has the same grid of 8 x 8 patches.
"""

from keras_siamim.recipes import mae_vit_tiny_32px

RECIPE = mae_vit_tiny_32px.RECIPE.override({"image_size": 64, "encoder.patch_size": 8})
