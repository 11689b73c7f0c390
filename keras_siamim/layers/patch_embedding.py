"""Patch embedding, the first layer of a ViT."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_siamim.arguments import whole_number
from keras_siamim.ops import gather_tokens, patchify
from keras_siamim.ops.tokens import check_data_format


def checked_grid(height: int | None, width: int | None, patch_size: int) -> tuple[int, int]:
    """Return the patch grid (rows, columns) of an image size.

    Args:
        height: int. Height of the image in pixels; None is invalid.
        width: int. Width of the image in pixels; None is invalid.
        patch_size: int. Side of a patch in pixels.

    Raises:
        ValueError: If `patch_size` does not divide the image.

    Example:
        >>> checked_grid(224, 160, 16)
        (14, 10)
    """
    if height is None or width is None or height % patch_size or width % patch_size or min(height, width) < patch_size:
        raise ValueError(
            f"`image_size` must be a multiple of `patch_size` in height and width. Received: image_size={height} x "
            f"{width}, patch_size={patch_size}."
        )
    return height // patch_size, width // patch_size


@keras.saving.register_keras_serializable(package="keras_siamim")
class PatchEmbedding(keras.layers.Layer):
    """Linear embedding of square patches: a convolution whose stride is its kernel size, as one matrix product.

    The kernel is the matrix (patch_size * patch_size * channels, width). Its rows have the order of a channels-last
    convolution kernel: (row, column, channel).

    Args:
        width: int. Output channels.
        patch_size: int. Side of a patch in pixels.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to Keras's setting.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        images: (batch, height, width, channels), or channels first. `patch_size` must divide height and width.
        ids: (batch, selected) int32. Indices of the patches to embed. Defaults to None, all patches.

    Returns:
        (batch, patches, width).

    Raises:
        ValueError: If `width` or `patch_size` is not a positive integer, `data_format` is unknown, or `patch_size` does
            not divide the images.

    Example:
        >>> from keras_siamim.layers import PatchEmbedding
        >>> layer = PatchEmbedding(width=8, patch_size=4, data_format="channels_last")
        >>> tuple(layer(keras.ops.zeros((1, 8, 12, 3))).shape)
        (1, 6, 8)
    """

    def __init__(self, width: int, patch_size: int, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = whole_number("width", width)
        self.patch_size = whole_number("patch_size", patch_size)
        self.data_format = check_data_format(keras.config.image_data_format() if data_format is None else data_format)

    def grid(self, image_shape: Sequence[int | None]) -> tuple[int, int]:
        """Return the patch grid (rows, columns) of images of the static shape `image_shape`, batch axis included."""
        height, width = image_shape[1:3] if self.data_format == "channels_last" else image_shape[2:4]
        return checked_grid(height, width, self.patch_size)

    def build(self, images_shape):
        self.grid(images_shape)
        channels = images_shape[-1 if self.data_format == "channels_last" else 1]
        self.kernel = self.add_weight(
            shape=(self.patch_size**2 * channels, self.width), initializer="glorot_uniform", name="kernel"
        )
        self.bias = self.add_weight(shape=(self.width,), initializer="zeros", name="bias")

    def set_trainable(self, trainable: bool) -> None:
        """Train or freeze kernel and bias.

        Pre-training freezes the variables, not the layer, to keep the layer at its initial values.
        """
        for variable in (self.kernel, self.bias):
            variable.trainable = trainable

    def call(self, images, ids=None):
        self.grid(images.shape)
        patches = patchify(images, self.patch_size, self.data_format)
        if ids is not None:
            patches = gather_tokens(patches, ids)
        return ops.matmul(patches, self.kernel) + self.bias

    def compute_output_shape(self, images_shape, ids_shape=None):
        rows, columns = self.grid(images_shape)
        return (images_shape[0], ids_shape[1] if ids_shape else rows * columns, self.width)

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "patch_size": self.patch_size,
            "data_format": self.data_format,
        }
