"""The first layer of a ViT."""

import keras
from keras import ops

from keras_siamim.layers.arguments import whole_number
from keras_siamim.ops import gather_tokens, patchify


def checked_grid(height, width, patch_size):
    """Patch grid (rows, columns) of an image size.

    Raises:
        ValueError: If the patch does not divide the image.
    """
    if height is None or width is None or height % patch_size or width % patch_size or min(height, width) < patch_size:
        raise ValueError(
            f"The image size must be a multiple of `patch_size` in height and width. Received: image size "
            f"{height} x {width}, patch_size={patch_size}."
        )
    return height // patch_size, width // patch_size


@keras.saving.register_keras_serializable(package="keras_siamim")
class PatchEmbedding(keras.layers.Layer):
    """Linear embedding of square patches: a convolution whose stride is its kernel size, written as one matrix product.

    The kernel is kept as the matrix (patch_size * patch_size * channels, width), rows in the order (row, column,
    channel): that of a channels-last convolution kernel. Only the patches that are asked for are embedded.

    Args:
        width: Output channels.
        patch_size: Side of a patch in pixels.
        data_format: `"channels_last"`, `"channels_first"` or None for Keras's setting.
        **kwargs: As for every Keras layer.
    """

    def __init__(self, width, patch_size, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.width = whole_number("width", width)
        self.patch_size = whole_number("patch_size", patch_size)
        self.data_format = data_format or keras.config.image_data_format()

    def grid(self, image_shape):
        """Patch grid (rows, columns) of a batch of images with the static shape `image_shape`."""
        height, width = image_shape[1:3] if self.data_format == "channels_last" else image_shape[2:4]
        return checked_grid(height, width, self.patch_size)

    def build(self, images_shape):
        """Create kernel and bias for images of the static shape `images_shape`."""
        self.grid(images_shape)
        channels = images_shape[-1 if self.data_format == "channels_last" else 1]
        self.kernel = self.add_weight(
            shape=(self.patch_size**2 * channels, self.width), initializer="glorot_uniform", name="kernel"
        )
        self.bias = self.add_weight(shape=(self.width,), initializer="zeros", name="bias")

    def set_trainable(self, trainable):
        """Train or freeze both weights, one by one: how pre-training holds this layer at its initial values."""
        for variable in (self.kernel, self.bias):
            variable.trainable = trainable

    def call(self, images, ids=None):
        """Embed the patches of `images`, all of them or those numbered by `ids` (batch, picked) int32."""
        self.grid(images.shape)
        patches = patchify(images, self.patch_size, self.data_format)
        if ids is not None:
            patches = gather_tokens(patches, ids)
        return ops.matmul(patches, self.kernel) + self.bias

    def compute_output_shape(self, images_shape, ids_shape=None):
        """(batch, patches, width)."""
        rows, columns = self.grid(images_shape)
        return (images_shape[0], ids_shape[1] if ids_shape else rows * columns, self.width)

    def get_config(self):
        """Constructor arguments."""
        return {
            **super().get_config(),
            "width": self.width,
            "patch_size": self.patch_size,
            "data_format": self.data_format,
        }
