"""The same views made on the training device, for accelerators with few host cores.

The input pipeline then only decodes, draws and, for images of mixed sizes, cuts: `training_batches(on_device=True)`.
Colors, blur and, for images of one size, the crops are `keras.ops` and can be the first layer of a compiled step.
"""

import numbers

import keras

from keras_siamim import batch
from keras_siamim.data.views import color, crops
from keras_siamim.data.views.recipe import ONLINE, TARGET, ViewRecipe

# What a raw batch holds instead of views: whole images of one size, or what was cut from images of any size.
IMAGES, CUT, BOXES, NUMBERS = "images", "cut", "boxes", "numbers"


@keras.saving.register_keras_serializable(package="keras_siamim")
class RenderViews(keras.layers.Layer):
    """Turn a raw batch into a training batch; the arithmetic and the draws are those of `PairedViews`.

    Call arguments:
        raw: dict of `"images"`, `(batch, height, width, 3)` uint8, with `"boxes"`, `(batch, views, 5)` int32; or of
            `"cut"`, `(batch, views, *image_size, 3)` uint8; and `"numbers"`, `(batch, views, COLOR_NUMBERS)` float32
            in [0, 1). Other entries, such as masks and labels, are handed through.

    Returns:
        A dict as `keras_siamim.batch` describes it.

    Args:
        image_size: `(height, width)` of the views, or one int for squares.
        view_1: `ViewRecipe` of the online view, or its arguments as a dict.
        view_2: the same for the target view, or None for single views.
    """

    def __init__(self, image_size, view_1=ONLINE, view_2=TARGET, **kwargs):
        super().__init__(**{"dtype": "float32", "autocast": False, **kwargs})
        self.image_size = (image_size, image_size) if isinstance(image_size, numbers.Integral) else tuple(image_size)
        self.view_1 = ViewRecipe.of(view_1)
        self.view_2 = None if view_2 is None else ViewRecipe.of(view_2)

    def get_config(self):
        """Return the constructor's arguments."""
        view_2 = None if self.view_2 is None else self.view_2.to_dict()
        return {
            **super().get_config(),
            "image_size": self.image_size,
            "view_1": self.view_1.to_dict(),
            "view_2": view_2,
        }

    def call(self, raw):
        """Make the views; see the class."""
        result = {key: value for key, value in raw.items() if key not in (IMAGES, CUT, BOXES, NUMBERS)}
        recipes = {batch.VIEW_1: self.view_1, batch.VIEW_2: self.view_2}
        for k, (name, recipe) in enumerate(recipes.items()):
            if recipe is None:
                continue
            if CUT in raw:
                image = color.bands(keras.ops, raw[CUT][:, k])
            else:
                whole = color.bands(keras.ops, raw[IMAGES])
                image = crops.crop_and_resize_equal(keras.ops, whole, raw[BOXES][:, k], self.image_size)
            result[name] = color.normalize(keras.ops, recipe.distort(keras.ops, image, raw[NUMBERS][:, k]))
        return result
