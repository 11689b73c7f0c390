"""Optional parts of a residual branch."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_siamim")
class LayerScale(keras.layers.Layer):
    """A learned factor per channel (CaiT, arXiv 2103.17239).

    Args:
        initial: Initial value of every factor.
        **kwargs: As for every Keras layer.
    """

    def __init__(self, initial, **kwargs):
        super().__init__(**kwargs)
        self.initial = initial

    def build(self, input_shape):
        """Create the factors (width,)."""
        self.scale = self.add_weight(
            shape=(input_shape[-1],), initializer=keras.initializers.Constant(self.initial), name="scale"
        )

    def call(self, x):
        """(..., width) to the same."""
        return x * self.scale

    def compute_output_shape(self, input_shape):
        """As the input."""
        return input_shape

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "initial": self.initial}


@keras.saving.register_keras_serializable(package="keras_siamim")
class StochasticDepth(keras.layers.Layer):
    """Drops a residual branch for whole images while training (arXiv 1603.09382), the others scaled to keep the mean.

    Args:
        rate: Probability of dropping, 0 or more and below 1.
        seed: Seed of the draws.
        **kwargs: As for every Keras layer.

    Raises:
        ValueError: If `rate` is outside its range.
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` of stochastic depth must be 0 or more and below 1. Received: {rate}.")
        self.rate = rate
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=False):
        """(batch, ...) to the same."""
        if not training or not self.rate:
            return x
        keep = 1.0 - self.rate
        shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        kept = keras.random.uniform(shape, seed=self.generator) < keep
        return x * ops.cast(kept, x.dtype) / keep

    def compute_output_shape(self, input_shape):
        """As the input."""
        return input_shape

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
