"""SiameseIM, ViT-Base/16, 400 epochs of ImageNet: the training length of the paper's ablations.

    keras-siamim pretrain --recipe siamese_im_vit_base_400ep --data tfds:imagenet2012 --test-split validation

Cost: a quarter of `siamese_im_vit_base_1600ep`. Expected result: somewhat below it; the ranking of the methods is
already visible.
"""

from keras_siamim.recipes import siamese_im_vit_base_1600ep

RECIPE = siamese_im_vit_base_1600ep.RECIPE.override({"epochs": 400, "warmup": 0.1})
