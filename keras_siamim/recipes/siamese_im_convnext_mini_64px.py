"""SiameseIM, a narrow ConvNeXt V2 with cells of 8 pixels, for images of 64 pixels on machines without an accelerator.

    keras-siamim pretrain --recipe siamese_im_convnext_mini_64px --data path/to/images

The encoder has a grid of 8 x 8 cells and the operations of the ViT of `siamese_im_vit_mini_32px` at this size, so that
the two can be compared. Cost: see `benchmarks/README.md`. Expected result: the loss falls below 0.9 as that of the ViT
does.
"""

from keras_siamim.recipes import siamese_im_vit_mini_32px

RECIPE = siamese_im_vit_mini_32px.RECIPE.override(
    {
        "backbone": "ConvNeXt",
        "image_size": 64,
        "encoder.stem": 2,
        "encoder.widths": (24, 48, 96),
        "encoder.depths": (2, 2, 4),
        # Freezing the first layer is a remedy for the instability of ViTs (MoCo v3, arXiv 2104.02057, section 4).
        "model.train_patch_embedding": True,
    }
)
