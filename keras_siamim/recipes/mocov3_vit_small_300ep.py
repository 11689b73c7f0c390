"""MoCo v3, ViT-Small/16, 300 epochs of ImageNet.

    keras-siamim pretrain --recipe mocov3_vit_small_300ep --data tfds:imagenet2012 --test-split validation

Cost: about a quarter of `mocov3_vit_base_300ep`. The released MoCo v3 weights of this size have 12 heads, twice the
usual number. Set `encoder.num_heads=12` to continue from them.
"""

from keras_siamim.recipes import mocov3_vit_base_300ep

RECIPE = mocov3_vit_base_300ep.RECIPE.override({"encoder.width": 384, "encoder.num_heads": 6})
