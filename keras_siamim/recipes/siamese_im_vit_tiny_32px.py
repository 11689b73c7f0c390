"""SiameseIM, ViT-Tiny/4, for images of 32 pixels (the size of CIFAR).

    keras-siamim pretrain --recipe siamese_im_vit_tiny_32px --data tfds:cifar10

Cost: 200 epochs of 50,000 images are 10 million view pairs, which take hours on one accelerator and days on a CPU (try
`--set epochs=10`). Expected result: the loss starts near 1.5 and falls below 0.9; the k-NN accuracy rises meanwhile.
"""

from keras_siamim.recipes._recipe import Recipe

# Small images lose too much content under aggressive crops and blur.
VIEW = {"area": (0.2, 1.0), "blur_probability": 0.5, "blur_sigma": (0.1, 1.0)}

RECIPE = Recipe(
    image_size=32,
    epochs=200,
    warmup=0.05,
    batch_size=512,
    base_learning_rate=5e-4,
    target_momentum=0.99,
    encoder={"patch_size": 4, "width": 192, "depth": 12, "num_heads": 3},
    model={"decoder_width": 192, "decoder_heads": 3},
    optimizer={"global_clipnorm": 1.0},
    view_1=VIEW,
    view_2={**VIEW, "blur_probability": 0.1, "solarize_probability": 0.2},
    masking={"mask_ratio": 0.6, "min_block": 4},
)
