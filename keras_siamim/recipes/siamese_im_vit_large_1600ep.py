"""SiameseIM, ViT-Large/16, 1600 epochs of ImageNet.

    keras-siamim pretrain --recipe siamese_im_vit_large_1600ep --data tfds:imagenet2012 --test-split validation

Cost: about three times `siamese_im_vit_base_1600ep`. The decoder keeps the width that it has with ViT-Base.
"""

from keras_siamim.recipes import siamese_im_vit_base_1600ep

RECIPE = siamese_im_vit_base_1600ep.RECIPE.override(
    {"encoder.width": 1024, "encoder.depth": 24, "encoder.num_heads": 16}
)
