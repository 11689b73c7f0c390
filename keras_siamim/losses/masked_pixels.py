"""The loss of MAE."""

from keras import ops


def normalize_pixels(patches, epsilon=1e-6):
    """Pixels of every patch at zero mean and unit variance (MAE, arXiv 2111.06377, section 3).

    Args:
        patches: (..., pixels), any float dtype, `pixels` counting channels too.
        epsilon: Added to the variance, which is unbiased.

    Returns:
        (..., pixels) float32.
    """
    patches = ops.cast(patches, "float32")
    centered = patches - ops.mean(patches, axis=-1, keepdims=True)
    variance = ops.sum(ops.square(centered), axis=-1, keepdims=True) / (patches.shape[-1] - 1)
    return centered * ops.rsqrt(variance + epsilon)


def masked_pixel_loss(prediction, pixels, masked):
    """Mean squared error of the masked patches.

    Args:
        prediction: (batch, patches, pixels), any float dtype.
        pixels: (batch, patches, pixels).
        masked: (batch, patches) bool, True where masked; at least one is.

    Returns:
        float32 scalar. No gradient flows through `pixels`.
    """
    difference = ops.cast(prediction, "float32") - ops.stop_gradient(ops.cast(pixels, "float32"))
    error = ops.mean(ops.square(difference), axis=-1)
    weight = ops.cast(masked, "float32")
    return ops.sum(error * weight) / ops.sum(weight)
