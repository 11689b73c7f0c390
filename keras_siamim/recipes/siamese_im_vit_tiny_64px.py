"""SiameseIM, ViT-Tiny/8, for images of 64 pixels (the size of Tiny ImageNet).

    keras-siamim pretrain --recipe siamese_im_vit_tiny_64px --data path/to/images

Cost and expected result: those of `siamese_im_vit_tiny_32px`, which has the same grid of 8 x 8 patches.
"""

from keras_siamim.recipes import siamese_im_vit_tiny_32px

RECIPE = siamese_im_vit_tiny_32px.RECIPE.override({"image_size": 64, "encoder.patch_size": 8})
