"""LayerScale and stochastic depth of residual branches."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_siamim")
class LayerScale(keras.layers.Layer):
    """LayerScale: one learned factor per channel (CaiT, arXiv 2103.17239).

    Args:
        initial: float. Initial value of every factor.
        **kwargs: Arguments of `keras.layers.Layer`.

    Example:
        >>> from keras_siamim.layers import LayerScale
        >>> LayerScale(0.5)(np.float32([[2.0, 4.0]])).numpy()
        array([[1., 2.]], dtype=float32)
    """

    def __init__(self, initial: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.initial = initial

    def build(self, input_shape):
        self.scale = self.add_weight(
            shape=(input_shape[-1],), initializer=keras.initializers.Constant(self.initial), name="scale"
        )

    def call(self, x):
        return x * self.scale

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "initial": self.initial}


@keras.saving.register_keras_serializable(package="keras_siamim")
class StochasticDepth(keras.layers.Layer):
    """Stochastic depth: random removal of a residual branch per image, in training only (arXiv 1603.09382).

    The branches that remain are divided by 1 - `rate`, which keeps the mean.

    Args:
        rate: float in [0, 1). Probability of removal.
        seed: int. Random seed. Defaults to None, a random one.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `rate` is out of its range.

    Example:
        >>> from keras_siamim.layers import StochasticDepth
        >>> y = StochasticDepth(0.5, seed=1)(keras.ops.ones((100, 3)), training=True)
        >>> np.unique(y.numpy())
        array([0., 2.], dtype=float32)
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must be in [0, 1), as the rate of stochastic depth. Received: {rate}.")
        self.rate = rate
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=False):
        if not training or not self.rate:
            return x
        keep = 1.0 - self.rate
        shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        kept = keras.random.uniform(shape, seed=self.generator) < keep
        return x * ops.cast(kept, x.dtype) / keep

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
