"""MoCo v3, ViT-Base/16, 300 epochs of ImageNet (arXiv 2104.02057).

    keras-siamim pretrain --recipe mocov3_vit_base_300ep --data tfds:imagenet2012 --test-split validation

Cost: an epoch costs about twice an epoch of `siamese_im_vit_base_1600ep`, counted as tokens x blocks. Both branches
encode all patches of both views. Expected result (SiameseIM paper, table 1): 83.0% fine-tuned, 76.7% linear probe,
63.4% with 1% of the labels; 47.9 box AP on COCO, 47.3 mIoU on ADE20K.
"""

from keras_siamim.recipes._recipe import Recipe

RECIPE = Recipe(
    objective="MoCoV3",
    epochs=300,
    warmup=40 / 300,
    batch_size=4096,
    base_learning_rate=1.5e-4,
    target_momentum=0.99,
    encoder={"patch_size": 16, "width": 768, "depth": 12, "num_heads": 12, "final_norm": True},
    optimizer={"weight_decay": 0.1, "beta_2": 0.999},
    masking=None,
    dtype="mixed_bfloat16",
)
