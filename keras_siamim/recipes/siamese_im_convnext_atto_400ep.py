"""SiameseIM, ConvNeXt V2 Atto, 400 epochs of images of 224 pixels, a grid of 7 x 7 cells.

    keras-siamim pretrain --recipe siamese_im_convnext_atto_400ep --data tfds:imagenet2012 --test-split validation

Cost: not measured; no one has trained it. The settings are those of the paper's ViT, except for a trained first layer,
a decoder of the encoder's scale and a momentum from 0.996.
"""

from keras_siamim.recipes import siamese_im_vit_base_400ep

RECIPE = siamese_im_vit_base_400ep.RECIPE.override(
    {
        "backbone": "ConvNeXt",
        "target_momentum": 0.996,
        "encoder.widths": (40, 80, 160, 320),
        "encoder.depths": (2, 2, 6, 2),
        "model.decoder_width": 384,
        "model.decoder_heads": 6,
        "model.train_patch_embedding": True,
    }
)
