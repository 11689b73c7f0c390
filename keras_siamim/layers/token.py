"""A learned vector that stands for the image (class token) or for a patch to be predicted (mask token)."""

import keras
from keras import ops

from keras_siamim.layers.arguments import whole_number


@keras.saving.register_keras_serializable(package="keras_siamim")
class Token(keras.layers.Layer):
    """One learned token, initially N(0, 0.02^2).

    Called on tokens (batch, tokens, width) it puts itself in front. The weight has the shape (1, 1, width): as a weight
    of more than one dimension it decays, as in the authors' program.

    Args:
        width: Channels.
        **kwargs: As for every Keras layer.
    """

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = whole_number("width", width)

    def build(self, input_shape=None):
        """Create the weight."""
        self.token = self.add_weight(
            shape=(1, 1, self.width), initializer=keras.initializers.RandomNormal(stddev=0.02), name="token"
        )
        self.built = True

    def repeat(self, batch, tokens=1):
        """The token (batch, tokens, width) in the compute dtype; `batch` may be a tensor."""
        return ops.broadcast_to(ops.cast(self.token, self.compute_dtype), (batch, tokens, self.width))

    def call(self, tokens):
        """Prepend the token: (batch, tokens, width) to (batch, 1 + tokens, width)."""
        return ops.concatenate([self.repeat(ops.shape(tokens)[0]), tokens], axis=1)

    def compute_output_shape(self, input_shape):
        """One token more."""
        return (input_shape[0], None if input_shape[1] is None else input_shape[1] + 1, self.width)

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "width": self.width}
