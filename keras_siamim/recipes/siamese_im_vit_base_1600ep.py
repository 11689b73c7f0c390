"""SiameseIM, ViT-Base/16, 1600 epochs of ImageNet: the paper's main result.

    keras-siamim pretrain --recipe siamese_im_vit_base_1600ep --data tfds:imagenet2012 --test-split validation

Cost: 2 billion view pairs, weeks on eight large accelerators. Expected result (paper, table 1): 84.1% fine-tuned, 78.0%
linear probe, 65.1% with 1% of the labels; 52.1 box AP on COCO, 51.1 mIoU on ADE20K. With fewer devices, set
`accumulation_steps`; token BatchNorm then computes its statistics over the smaller batch.
"""

from keras_siamim.recipes._recipe import Recipe

RECIPE = Recipe(
    epochs=1600,
    warmup=0.025,
    batch_size=4096,
    base_learning_rate=6.25e-5,
    target_momentum=0.995,
    encoder={"patch_size": 16, "width": 768, "depth": 12, "num_heads": 12},
    optimizer={"global_clipnorm": 1.0},
    masking={"mask_ratio": 118 / 196},
    dtype="mixed_bfloat16",
)
