"""View creation on the training device, for accelerators with few host cores.

With `training_batches(on_device=True)`, the input pipeline decodes images and draws random parameters. It also crops
images of mixed sizes. Everything else runs in `keras.ops`, in the compiled training step of an objective whose
`set_views` got a `RenderViews` layer: crops of images of one size, color operations and blur.
"""

from collections.abc import Mapping
from typing import Any

import keras

from keras_siamim import batch
from keras_siamim.arguments import height_and_width
from keras_siamim.data.views import color, crops
from keras_siamim.data.views.recipe import ONLINE, TARGET, ViewRecipe
from keras_siamim.types import Size

# Keys of a raw batch, which holds complete images of one size, or crops of images of any size, in place of views.
IMAGES, CUT, BOXES, NUMBERS = "images", "cut", "boxes", "numbers"


@keras.saving.register_keras_serializable(package="keras_siamim")
class RenderViews(keras.layers.Layer):
    """Layer that turns a raw batch into a training batch, with the arithmetic and random parameters of `PairedViews`.

    Call arguments:
        raw: dict. Either `"images"`, `(batch, height, width, 3)` uint8, with `"boxes"`, `(batch, views, 5)` int32; or
            `"cut"`, `(batch, views, *image_size, 3)` uint8. In both cases `"numbers"`,
            `(batch, views, NUM_COLOR_SAMPLES)` float32 in [0, 1). Other entries, such as masks and labels, are kept.

    Returns:
        A training batch, see `keras_siamim.batch`.

    Args:
        image_size: int or `(height, width)`. Size of the views; an int gives squares.
        view_1: `ViewRecipe` or dict of its arguments. Online view. Defaults to `ONLINE`.
        view_2: `ViewRecipe`, dict of its arguments or None. Target view; None for single views. Defaults to `TARGET`.
        **kwargs: Of `keras.layers.Layer`.

    Raises:
        ValueError: If `image_size` is not positive.

    Example:
        >>> raw = {"cut": np.zeros((2, 2, 32, 32, 3), "uint8"), "numbers": np.zeros((2, 2, 13), "float32")}
        >>> views = RenderViews(32)(raw)
        >>> sorted(views), tuple(views["view_1"].shape)
        (['view_1', 'view_2'], (2, 32, 32, 3))
    """

    def __init__(
        self,
        image_size: Size,
        view_1: ViewRecipe | Mapping[str, Any] = ONLINE,
        view_2: ViewRecipe | Mapping[str, Any] | None = TARGET,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", "autocast": False, **kwargs})
        self.image_size = height_and_width("image_size", image_size)
        self.view_1 = ViewRecipe.of(view_1)
        self.view_2 = None if view_2 is None else ViewRecipe.of(view_2)

    @classmethod
    def of(cls, views: Any) -> "RenderViews":
        """Create the layer that makes the views of a `PairedViews` layer from its raw batches."""
        return cls(views.image_size, views.view_1, views.view_2)

    def get_config(self):
        view_2 = None if self.view_2 is None else self.view_2.to_dict()
        return {
            **super().get_config(),
            "image_size": self.image_size,
            "view_1": self.view_1.to_dict(),
            "view_2": view_2,
        }

    def call(self, raw):
        result = {key: value for key, value in raw.items() if key not in (IMAGES, CUT, BOXES, NUMBERS)}
        recipes = {batch.VIEW_1: self.view_1, batch.VIEW_2: self.view_2}
        for k, (name, recipe) in enumerate(recipes.items()):
            if recipe is None:
                continue
            if CUT in raw:
                image = color.bands(keras.ops, raw[CUT][:, k])
            else:
                complete = color.bands(keras.ops, raw[IMAGES])
                image = crops.crop_and_resize_equal(keras.ops, complete, raw[BOXES][:, k], self.image_size)
            result[name] = color.normalize(keras.ops, recipe.augment(keras.ops, image, raw[NUMBERS][:, k]))
        return result
