"""MAE, ViT-Base/16, 1600 epochs of ImageNet: the baseline of the paper's comparison (arXiv 2111.06377).

    keras-siamim pretrain --recipe mae_vit_base_1600ep --data tfds:imagenet2012 --test-split validation

Cost: about 40% of `siamese_im_vit_base_1600ep`, counted as tokens x blocks. MAE encodes a quarter of the patches of one
view and has no target branch. Expected result (SiameseIM paper, table 1): 83.6% fine-tuned, 68.0% linear probe, 51.1%
with 1% of the labels; 51.6 box AP on COCO, 48.1 mIoU on ADE20K.
"""

from keras_siamim.recipes._recipe import Recipe

RECIPE = Recipe(
    objective="MAE",
    epochs=1600,
    warmup=0.025,
    batch_size=4096,
    base_learning_rate=1.5e-4,
    target_momentum=None,
    encoder={
        "patch_size": 16,
        "width": 768,
        "depth": 12,
        "num_heads": 12,
        "final_norm": True,
        "axis_order": "columns_first",
    },
    view_1={"area": (0.2, 1.0), "jitter_probability": 0.0, "gray_probability": 0.0, "blur_probability": 0.0},
    view_2=None,
    masking={"mask_ratio": 0.75, "mode": "random"},
    dtype="mixed_bfloat16",
)
