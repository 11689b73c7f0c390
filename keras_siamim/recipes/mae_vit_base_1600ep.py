"""MAE, ViT-Base/16, 1600 epochs of ImageNet, as the paper compares it (arXiv 2111.06377).

    keras-siamim pretrain --recipe mae_vit_base_1600ep --data tfds:imagenet2012 --test-split validation

Cost: about four tenths of `siamese_im_vit_base_1600ep`, counted in tokens times blocks: one view, a quarter of its
patches in the encoder, no target. Expect (SiameseIM, table 1): 83.6 % fine-tuned, 68.0 % linear probe, 51.1 % with 1
% of the labels; 51.6 box AP on COCO, 48.1 mIoU on ADE20k.
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
