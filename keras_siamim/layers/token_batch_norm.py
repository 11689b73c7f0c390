"""BatchNorm over images and tokens."""

from typing import Any

import keras
from keras import ops

from keras_siamim._backend import kernels, mean_over_replicas, replica_count


@keras.saving.register_keras_serializable(package="keras_siamim")
class TokenBatchNorm(keras.layers.Layer):
    """BatchNorm in place of LayerNorm in projector and decoder (SiameseIM, section 3.4).

    Statistics are per channel, over all images *and* tokens of the global batch, in float32 under every dtype policy.
    With `training=True` a frozen layer, as in the target branch, uses batch statistics too; Keras's BatchNormalization
    would use the running averages.

    Args:
        epsilon: float. Added to the variance. Defaults to 1e-5.
        momentum: float. Weight of the new batch in the running averages, as in PyTorch. The running variance is
            unbiased. Defaults to 0.1.
        affine: bool. Whether to apply a learned scale and offset. Defaults to True.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: When called in training on a batch of one image, unless replicas share the batch.

    Example:
        >>> from keras_siamim.layers import TokenBatchNorm
        >>> TokenBatchNorm(epsilon=0.0)(np.float32([[1.0], [3.0]]), training=True).numpy().ravel()
        array([-1.,  1.], dtype=float32)
    """

    def __init__(self, epsilon: float = 1e-5, momentum: float = 0.1, affine: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.momentum = momentum
        self.affine = affine

    def build(self, input_shape):
        shape = (input_shape[-1],)
        if self.affine:
            self.gamma = self.add_weight(shape=shape, initializer="ones", name="gamma")
            self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta")
        running = {"shape": shape, "dtype": "float32", "trainable": False, "autocast": False}
        self.moving_mean = self.add_weight(initializer="zeros", name="moving_mean", **running)
        self.moving_variance = self.add_weight(initializer="ones", name="moving_variance", **running)

    def call(self, x, training=False):
        if training:
            if x.shape[0] == 1 and replica_count() == 1:
                raise ValueError("`x` must have 2 or more images, for BatchNorm in training. Received: batch size 1.")
            x = ops.cast(x, "float32")
            if replica_count() == 1 and kernels.batch_norm is not None:
                return ops.cast(self._fused_batch_norm(x), self.compute_dtype)
            mean, variance = self._batch_statistics(x)
        else:
            mean, variance = self.moving_mean, self.moving_variance
        scale = ops.rsqrt(variance + self.epsilon)
        offset = -mean * scale
        if self.affine:
            gamma, beta = ops.cast(self.gamma, "float32"), ops.cast(self.beta, "float32")
            scale, offset = scale * gamma, offset * gamma + beta
        return ops.cast(ops.cast(x, "float32") * scale + offset, self.compute_dtype)

    def _fused_batch_norm(self, x):
        weights = (self.gamma, self.beta) if self.affine else (None, None)
        return kernels.batch_norm(x, *weights, self.moving_mean, self.moving_variance, self.momentum, self.epsilon)

    def _batch_statistics(self, x):
        """Return mean and biased variance of the global batch, and update the running averages."""
        axes = tuple(range(len(x.shape) - 1))
        local_mean = ops.mean(x, axis=axes)
        mean = mean_over_replicas(local_mean)
        # Squared deviations from the global mean: exact for every split of the batch, without cancellation.
        variance = mean_over_replicas(ops.mean(ops.square(x - mean), axis=axes))
        count = ops.cast(ops.size(x) // x.shape[-1] * replica_count(), "float32")
        unbiased = ops.stop_gradient(variance) * count / ops.maximum(count - 1.0, 1.0)
        self.moving_mean.assign(self.moving_mean + self.momentum * (ops.stop_gradient(mean) - self.moving_mean))
        self.moving_variance.assign(self.moving_variance + self.momentum * (unbiased - self.moving_variance))
        return mean, variance

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "epsilon": self.epsilon,
            "momentum": self.momentum,
            "affine": self.affine,
        }
