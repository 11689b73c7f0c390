"""A learned position embedding."""

import keras
from keras import ops

from keras_siamim.layers.arguments import whole_number
from keras_siamim.ops import resize_positions


@keras.saving.register_keras_serializable(package="keras_siamim")
class LearnedPositions(keras.layers.Layer):
    """One learned vector for the class token and each patch of a grid, resized bicubically for other grids.

    Args:
        width: Channels.
        grid: (rows, columns) of the patch grid that it is learned on.
        **kwargs: As for every Keras layer.
    """

    def __init__(self, width, grid, **kwargs):
        super().__init__(**kwargs)
        self.width = whole_number("width", width)
        self.grid = tuple(whole_number("grid", side) for side in grid)

    def build(self, input_shape=None):
        """Create the weight (1, 1 + rows * columns, width), the class token's first."""
        shape = (1, 1 + self.grid[0] * self.grid[1], self.width)
        self.embedding = self.add_weight(
            shape=shape, initializer=keras.initializers.RandomNormal(stddev=0.02), name="embedding"
        )
        self.built = True

    def table(self, grid):
        """Positions (1 + rows * columns, width) of a grid (rows, columns), in the compute dtype."""
        table = ops.cast(self.embedding[0], "float32")
        if tuple(grid) != self.grid:
            patches = resize_positions(table[1:], self.grid, grid)
            table = ops.concatenate([table[:1], patches], axis=0)
        return ops.cast(table, self.compute_dtype)

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "width": self.width, "grid": list(self.grid)}
