"""Reconstruction loss of MAE."""

from keras import ops

from keras_siamim.types import Tensor


def normalize_pixels(patches: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Normalize each patch to zero mean and unit (unbiased) variance (MAE, arXiv 2111.06377, section 3).

    Args:
        patches: (..., pixels * channels), any float dtype.
        epsilon: float. Added to the variance. Defaults to 1e-6.

    Returns:
        (..., pixels * channels) float32.

    Example:
        >>> from keras_siamim.losses import normalize_pixels
        >>> normalize_pixels(np.array([1.0, 2.0, 3.0]), epsilon=0.0).numpy()
        array([-1.,  0.,  1.], dtype=float32)
    """
    patches = ops.cast(patches, "float32")
    centered = patches - ops.mean(patches, axis=-1, keepdims=True)
    variance = ops.sum(ops.square(centered), axis=-1, keepdims=True) / (patches.shape[-1] - 1)
    return centered * ops.rsqrt(variance + epsilon)


def masked_pixel_loss(prediction: Tensor, pixels: Tensor, masked: Tensor) -> Tensor:
    """Return the mean squared error over the masked patches.

    Args:
        prediction: (batch, patches, pixels * channels), any float dtype.
        pixels: (batch, patches, pixels * channels). No gradient flows through them.
        masked: (batch, patches) bool. True where masked, for one patch of the batch at least.

    Returns:
        float32 scalar.

    Example:
        >>> from keras_siamim.losses import masked_pixel_loss
        >>> float(masked_pixel_loss(np.array([[[1.0], [5.0]]]), np.zeros((1, 2, 1)), np.array([[True, False]])))
        1.0
    """
    difference = ops.cast(prediction, "float32") - ops.stop_gradient(ops.cast(pixels, "float32"))
    error = ops.mean(ops.square(difference), axis=-1)
    weight = ops.cast(masked, "float32")
    return ops.sum(error * weight) / ops.sum(weight)
