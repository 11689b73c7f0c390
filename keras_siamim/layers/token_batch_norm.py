"""BatchNorm over images and tokens."""

import keras
from keras import ops

from keras_siamim._backend import kernels, mean_over_replicas, replica_count


@keras.saving.register_keras_serializable(package="keras_siamim")
class TokenBatchNorm(keras.layers.Layer):
    """BatchNorm in place of LayerNorm in projector and decoder (SiameseIM, section 3.4).

    Statistics per channel over all images *and* tokens of the global batch, in float32 under every dtype policy. They
    depend on `training` alone: the frozen target branch uses batch statistics too, where Keras's own layer would not.

    Args:
        epsilon: Added to the variance.
        momentum: Weight of a new batch in the running averages, PyTorch's sense. The running variance is unbiased.
        affine: Whether a learned scale and offset follow.
        **kwargs: As for every Keras layer.
    """

    def __init__(self, epsilon=1e-5, momentum=0.1, affine=True, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.momentum = momentum
        self.affine = affine

    def build(self, input_shape):
        """Create weights and running averages, (width,) float32."""
        shape = (input_shape[-1],)
        if self.affine:
            self.gamma = self.add_weight(shape=shape, initializer="ones", name="gamma")
            self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta")
        running = {"shape": shape, "dtype": "float32", "trainable": False, "autocast": False}
        self.moving_mean = self.add_weight(initializer="zeros", name="moving_mean", **running)
        self.moving_variance = self.add_weight(initializer="ones", name="moving_variance", **running)

    def call(self, x, training=False):
        """Normalize (batch, ..., width).

        Raises:
            ValueError: While training on a batch of one image, whose statistics would be its own.
        """
        if training:
            if x.shape[0] == 1 and replica_count() == 1:
                raise ValueError("BatchNorm needs a batch of 2 or more images while training. Received: batch size 1.")
            x = ops.cast(x, "float32")
            if replica_count() == 1 and kernels.batch_norm is not None:
                return ops.cast(self._in_one_pass(x), self.compute_dtype)
            mean, variance = self._batch_statistics(x)
        else:
            mean, variance = self.moving_mean, self.moving_variance
        scale = ops.rsqrt(variance + self.epsilon)
        offset = -mean * scale
        if self.affine:
            gamma, beta = ops.cast(self.gamma, "float32"), ops.cast(self.beta, "float32")
            scale, offset = scale * gamma, offset * gamma + beta
        return ops.cast(ops.cast(x, "float32") * scale + offset, self.compute_dtype)

    def _in_one_pass(self, x):
        weights = (self.gamma, self.beta) if self.affine else (None, None)
        return kernels.batch_norm(x, *weights, self.moving_mean, self.moving_variance, self.momentum, self.epsilon)

    def _batch_statistics(self, x):
        """Mean and biased variance of the global batch; moves the running averages."""
        axes = tuple(range(len(x.shape) - 1))
        local_mean = ops.mean(x, axis=axes)
        mean = mean_over_replicas(local_mean)
        # The second moment about the global mean: exact for every split of the batch, and free of cancellation.
        variance = mean_over_replicas(ops.mean(ops.square(x - mean), axis=axes))
        count = ops.cast(ops.size(x) // x.shape[-1] * replica_count(), "float32")
        unbiased = ops.stop_gradient(variance) * count / ops.maximum(count - 1.0, 1.0)
        self.moving_mean.assign(self.moving_mean + self.momentum * (ops.stop_gradient(mean) - self.moving_mean))
        self.moving_variance.assign(self.moving_variance + self.momentum * (unbiased - self.moving_variance))
        return mean, variance

    def compute_output_shape(self, input_shape):
        """As the input."""
        return input_shape

    def get_config(self):
        """Constructor arguments."""
        return {
            **super().get_config(),
            "epsilon": self.epsilon,
            "momentum": self.momentum,
            "affine": self.affine,
        }
