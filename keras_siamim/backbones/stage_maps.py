"""Feature maps of a ConvNeXt for dense tasks."""

from typing import Any

import keras

from keras_siamim.arguments import height_and_width
from keras_siamim.backbones.convnext import ConvNeXtEncoder
from keras_siamim.layers.patch_embedding import checked_grid
from keras_siamim.types import Size

# Maps that the heads of dense tasks read.
STAGES = 4


@keras.saving.register_keras_serializable(package="keras_siamim")
class StageMaps(keras.layers.Layer):
    """Backbone of dense tasks: the maps of the four stages of a ConvNeXt, each with a LayerNorm of its own.

    The stages have the strides of a feature pyramid already, 4 to 32 pixels with the usual stem, so that no neck is
    needed. The norms are those of ConvNeXt's dense tasks (arXiv 2201.03545, appendix A), since the outputs of the
    stages are sums of unnormalized branches.

    Args:
        encoder: `ConvNeXtEncoder` with four stages. Its configuration and weights are copied.
        image_size: int or (height, width). Pixels of the images, multiples of the encoder's patch size.
        drop_path_rate: float in [0, 1). Stochastic depth of the last block. Defaults to 0.1.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        images: (batch, *image_size, channels) float, normalized, channels last.
        training: bool. Whether to apply stochastic depth. Defaults to False.

    Returns:
        List of four maps (batch, rows, columns, channels), the largest first.

    Raises:
        ValueError: If the encoder does not have four stages, or its patch size does not divide `image_size`.

    Example:
        >>> encoder = ConvNeXtEncoder(image_size=16, stem=2, widths=(4, 4, 8, 8), depths=(1, 1, 1, 1))
        >>> [tuple(x.shape[1:]) for x in StageMaps(encoder, 32)(keras.ops.zeros((1, 32, 32, 3)))]
        [(16, 16, 4), (8, 8, 4), (4, 4, 8), (2, 2, 8)]
    """

    def __init__(self, encoder: ConvNeXtEncoder, image_size: Size, drop_path_rate: float = 0.1, **kwargs: Any):
        super().__init__(**kwargs)
        stages = len(encoder.widths)
        if stages != STAGES:
            raise ValueError(
                f"`encoder` must have {STAGES} stages, whose maps are the feature pyramid. Received: a ConvNeXtEncoder "
                f"with {stages} of them; evaluate it by the protocols on frozen patch features."
            )
        self.image_size = height_and_width("image_size", image_size)
        self.grid = checked_grid(*self.image_size, encoder.patch_size)
        self.drop_path_rate = drop_path_rate
        config = {**encoder.get_config(), "drop_path_rate": drop_path_rate, "dtype": self.dtype_policy}
        self.encoder = ConvNeXtEncoder.from_config({**config, "data_format": "channels_last", "name": "encoder"})
        self.encoder.set_weights(encoder.get_weights())
        self.norms = [
            keras.layers.LayerNormalization(epsilon=1e-6, dtype=self.dtype_policy, name=f"norm_{stage}")
            for stage in range(STAGES)
        ]
        self.build((None, *self.image_size, encoder.channels))

    def build(self, images_shape):
        if self.built:
            return
        for norm, shape in zip(self.norms, self.compute_output_shape(images_shape), strict=True):
            norm.build(shape)
        self.built = True

    def call(self, images, training=False):
        maps = self.encoder.feature_maps(images, training=training)
        return [norm(x) for norm, x in zip(self.norms, maps, strict=True)]

    def compute_output_shape(self, images_shape):
        rows, columns = self.grid
        scales = [2**level for level in reversed(range(STAGES))]
        return [
            (images_shape[0], rows * scale, columns * scale, width)
            for scale, width in zip(scales, self.encoder.widths, strict=True)
        ]

    @property
    def strides(self) -> list[int]:
        """Strides of the maps in pixels."""
        return [self.encoder.stem * 2**stage for stage in range(STAGES)]
