"""Pairs of augmented views with their relative geometry, as a keras-cv layer (arXiv 2206.01204, section 3.2)."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import keras
import keras_cv
import tensorflow as tf

from keras_siamim import batch
from keras_siamim.arguments import height_and_width
from keras_siamim.data import random
from keras_siamim.data.images import decoding
from keras_siamim.data.python_calls import numpy_function
from keras_siamim.data.views import color, crops, geometry, on_device_views
from keras_siamim.data.views.recipe import NUM_SAMPLES, ONLINE, TARGET, ViewRecipe
from keras_siamim.types import Size, Tensor

IMAGES, INDEX, EPOCH = "images", "index", "epoch"
# Pixels of the images that are augmented together: about 3 MB as floats, which stay in the cache.
CACHED_PIXELS = 1 << 18


@keras.saving.register_keras_serializable(package="keras_siamim")
class PairedViews(keras_cv.layers.BaseImageAugmentationLayer):
    """Layer that creates two differently augmented views per image and their relative geometry.

    Crop boxes, flips and color parameters are drawn per image and per view. With an image index and an epoch, they
    depend on `(seed, epoch, index)` alone, so parallel workers may process images in any order. Without an index, they
    come from a generator that starts at `seed` and advances with every call.

    Call arguments:
        inputs: Images, or a dict of `"images"`; `"index"`, `(batch,)` or `()` ints, the image indices; and `"epoch"`,
            an int. Images are `(batch, height, width, channels)` of one size, or one `(height, width, channels)` of
            any size. They have 3 channels, or 1, which is repeated. Their dtype is uint8, or another one in a range of
            `images.as_bytes`, such as floats in [0, 1] or [0, 255]. Images may be smaller than `image_size`; crops are
            then enlarged.

    Returns:
        A dict of `batch.VIEW_1`, `batch.VIEW_2`, `(batch, *image_size, 3)` float32, normalized, and
        `batch.RELATIVE_AFFINE`, `(batch, 4)` float32. A single image gives entries without the batch axis. With
        `view_2=None`, the dict holds `batch.VIEW_1` alone.

    Args:
        image_size: int or `(height, width)`. Size of the views; an int gives squares.
        view_1: `ViewRecipe` or dict of its arguments. Online view. Defaults to `ONLINE`.
        view_2: `ViewRecipe`, dict of its arguments or None. Target view; None for single views. Defaults to `TARGET`.
        seed: int. Seed of all random parameters. Defaults to 0.
        **kwargs: Of the keras-cv layer.

    Raises:
        ValueError: If `image_size` is not positive, or the rank, number of channels, value range or dtype of the images
            is not one of these.

    Example:
        >>> views = PairedViews(32, seed=1)
        >>> pair = views({"images": np.zeros((2, 48, 64, 3), "uint8"), "index": np.arange(2), "epoch": 0})
        >>> tuple(pair["view_2"].shape), tuple(pair["relative_affine"].shape)
        ((2, 32, 32, 3), (2, 4))
    """

    def __init__(
        self,
        image_size: Size,
        view_1: ViewRecipe | Mapping[str, Any] = ONLINE,
        view_2: ViewRecipe | Mapping[str, Any] | None = TARGET,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        self.image_size = height_and_width("image_size", image_size)
        self.view_1 = ViewRecipe.of(view_1)
        self.view_2 = None if view_2 is None else ViewRecipe.of(view_2)
        self.seed = seed

    def get_config(self):
        view_2 = None if self.view_2 is None else self.view_2.to_dict()
        base = {key: value for key, value in super().get_config().items() if key in ("name", "trainable", "dtype")}
        return {
            **base,
            "image_size": self.image_size,
            "view_1": self.view_1.to_dict(),
            "view_2": view_2,
            "seed": self.seed,
        }

    @property
    def recipes(self) -> tuple[ViewRecipe, ...]:
        """Recipes of the views, one or two."""
        return (self.view_1,) if self.view_2 is None else (self.view_1, self.view_2)

    def draw(self, index: Tensor, epoch: Tensor, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the random parameters of images.

        Args:
            index: `(...)` int64. Image indices.
            epoch: int scalar. Epoch.
            height: `(...)` int32. Image heights in pixels.
            width: `(...)` int32. Image widths in pixels.

        Returns:
            boxes: `(..., views, 5)` int32. Crops.
            samples: `(..., views, NUM_COLOR_SAMPLES)` float32 in [0, 1). Random samples for `ViewRecipe.augment`.
        """
        return self._draw(random.tf_stream_keys(self.seed, random.VIEWS, epoch, index), height, width)

    def _draw(self, keys, height, width):
        samples = random.tf_uniforms(keys, NUM_SAMPLES * len(self.recipes))
        boxes, rest = [], []
        for recipe, own in zip(self.recipes, tf.split(samples, len(self.recipes), axis=-1), strict=True):
            boxes.append(
                crops.draw_crop(
                    own[..., : crops.NUM_SAMPLES],
                    height,
                    width,
                    area=recipe.area,
                    aspect=recipe.aspect,
                    flip_probability=recipe.flip_probability,
                )
            )
            rest.append(own[..., crops.NUM_SAMPLES :])
        return tf.stack(boxes, axis=-2), tf.stack(rest, axis=-2)

    def cut(self, image: Tensor, boxes: Tensor) -> Tensor:
        """Crop and resample the views of one image of any size.

        Args:
            image: `(height, width, 3)` uint8. The image.
            boxes: `(views, 5)` int32. Crops of `draw`.

        Returns:
            `(views, *image_size, 3)` uint8.
        """
        return tf.stack([crops.crop_and_resize(image, box, self.image_size) for box in tf.unstack(boxes)])

    def color(self, cropped: Tensor, samples: Tensor) -> list[Tensor]:
        """Augment and normalize resampled views.

        Args:
            cropped: `(batch, views, *image_size, 3)` uint8. Results of `cut`.
            samples: `(batch, views, NUM_COLOR_SAMPLES)` float32. Random samples of `draw`.

        Returns:
            A list of `(batch, *image_size, 3)` float32, one entry per view.
        """

        # Image by image, so that each stays in the cache through all operations.
        def one(image):
            cropped, samples = image
            return [_compiled_color(recipe)(cropped[k], samples[k]) for k, recipe in enumerate(self.recipes)]

        return tf.map_fn(one, (cropped, samples), fn_output_signature=[tf.float32] * len(self.recipes))

    def cut_and_color(self, images: Tensor, boxes: Tensor, samples: Tensor) -> list[Tensor]:
        """Apply `cut` and `color` together to a batch of images of one size, which is faster.

        Args:
            images: `(batch, height, width, 3)` uint8. The images.
            boxes: `(batch, views, 5)` int32. Crops of `draw`.
            samples: `(batch, views, NUM_COLOR_SAMPLES)` float32. Random samples of `draw`.

        Returns:
            A list of `(batch, *image_size, 3)` float32, one entry per view.
        """
        return [
            _compiled_views(recipe, self.image_size)(images, boxes[:, k], samples[:, k])
            for k, recipe in enumerate(self.recipes)
        ]

    def render(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        """Create the views of a raw batch on the host, as `on_device_views.RenderViews` does on the training device.

        Args:
            raw: dict. Raw batch, see `on_device_views.RenderViews`.

        Returns:
            A dict of `batch.VIEW_1` and `batch.VIEW_2`, `(batch, *image_size, 3)` float32; or the first alone.
        """
        if on_device_views.CUT in raw:
            views = self.color(raw[on_device_views.CUT], raw[on_device_views.NUMBERS])
        else:
            views = self.cut_and_color(
                raw[on_device_views.IMAGES], raw[on_device_views.BOXES], raw[on_device_views.NUMBERS]
            )
        return dict(zip((batch.VIEW_1, batch.VIEW_2), views, strict=False))

    def relative_geometry(self, boxes: Tensor, width: Tensor) -> dict[str, Tensor]:
        """Compute the affine map from view 2 to view 1.

        Args:
            boxes: `(..., views, 5)` int32. Crops of `draw`.
            width: `(...)` int32. Image widths in pixels.

        Returns:
            A dict of `batch.RELATIVE_AFFINE`, `(..., 4)` float32. The dict is empty for single views.
        """
        if self.view_2 is None:
            return {}
        pair = tf.cast(boxes, tf.float32)
        found = geometry.pair_geometry(pair[..., 0, :], pair[..., 1, :], tf.cast(width, tf.float32))
        return {batch.RELATIVE_AFFINE: geometry.relative_affine(found, xp=tf)}

    def __call__(self, inputs):
        # Keras rejects a dict that mixes tensors with plain numbers or arrays.
        if isinstance(inputs, dict):
            inputs = {key: tf.convert_to_tensor(value) for key, value in inputs.items()}
        return super().__call__(inputs)

    def _batch_augment(self, inputs):
        images = inputs[IMAGES]
        shape = tf.shape(images)
        boxes, samples = self._draw(self._keys(inputs, shape[:1]), shape[1], shape[2])
        raw = {on_device_views.IMAGES: images, on_device_views.BOXES: boxes, on_device_views.NUMBERS: samples}
        return {**self.render(raw), **self.relative_geometry(boxes, shape[2])}

    def _augment(self, inputs):
        image = inputs[IMAGES]
        shape = tf.shape(image)
        boxes, samples = self._draw(self._keys(inputs, []), shape[0], shape[1])
        views = self.render({on_device_views.CUT: self.cut(image, boxes)[None], on_device_views.NUMBERS: samples[None]})
        return {**{name: view[0] for name, view in views.items()}, **self.relative_geometry(boxes, shape[1])}

    def _keys(self, inputs, shape):
        if INDEX not in inputs:
            return self._random_generator.uniform_full_int(shape, tf.uint64)
        index = tf.broadcast_to(tf.cast(inputs[INDEX], tf.int64), shape)
        return random.tf_stream_keys(self.seed, random.VIEWS, inputs.get(EPOCH, 0), index)

    def _ensure_inputs_are_compute_dtype(self, inputs):
        # The base class would cast everything to floats; pixels must stay bytes, and indices integers.
        inputs = dict(inputs) if isinstance(inputs, dict) else {IMAGES: inputs}
        inputs[IMAGES] = validate_images(inputs[IMAGES])
        return inputs

    def _format_inputs(self, inputs):
        return inputs, None

    def _format_output(self, output, metadata):
        return output


def validate_images(images: Tensor) -> Tensor:
    """Convert images to uint8 with three channels.

    Args:
        images: `(height, width, channels)` or `(batch, height, width, channels)`. Images of 1 or 3 channels, in a dtype
            and range of `images.as_bytes`.

    Returns:
        `(..., height, width, 3)` uint8 tensor.

    Raises:
        ValueError: If the rank, number of channels, value range or dtype is not one of these.

    Example:
        >>> tuple(validate_images(np.zeros((5, 7, 1), "uint8")).shape)
        (5, 7, 3)
    """
    images = tf.convert_to_tensor(images)
    if images.shape.rank not in (3, 4):
        raise ValueError(
            "`images` must be (height, width, channels) or (batch, height, width, channels). "
            f"Received: shape {tuple(images.shape)}."
        )
    if images.shape[-1] not in (1, 3):
        raise ValueError(f"`images` must have 3 channels, or 1 to be repeated. Received: {images.shape[-1]}.")
    if 0 in images.shape[-3:-1]:
        raise ValueError(f"`images` must have at least one pixel. Received: shape {tuple(images.shape)}.")
    if images.dtype != tf.uint8:
        images = _as_bytes(images)
    return tf.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def _as_bytes(images):
    if tf.executing_eagerly():
        return tf.constant(decoding.as_bytes(images.numpy()))
    # In a graph, values are checked at run time.
    return tf.ensure_shape(numpy_function(decoding.as_bytes, [images], tf.uint8, stateful=False), images.shape)


@functools.lru_cache
def _compiled_color(recipe):
    @tf.function(jit_compile=True, autograph=False)
    def compiled(cropped, samples):
        image = color.bands(tf, cropped[None])
        return color.normalize(tf, recipe.augment(tf, image, samples[None], _jitter_one, _blur_chosen))[0]

    return compiled


@functools.lru_cache
def _compiled_views(recipe, size):
    def create(images, boxes, samples):
        cropped = crops.crop_and_resize_equal(tf, color.bands(tf, images), boxes, size)
        return color.normalize(tf, recipe.augment(tf, cropped, samples, blur=_blur_of(recipe)))

    @tf.function(jit_compile=True, autograph=False)
    def compiled(images, boxes, samples):
        pieces = _num_pieces(images.shape[0] or 1, max(math.prod(size), math.prod(images.shape[1:3])))
        if pieces == 1:
            return create(images, boxes, samples)
        split = [tf.reshape(values, (pieces, -1, *values.shape[1:])) for values in (images, boxes, samples)]
        created = tf.map_fn(lambda piece: create(*piece), split, fn_output_signature=tf.float32)
        return tf.reshape(created, (-1, *size, 3))

    return compiled


def _num_pieces(count, pixels):
    # Equal parts, a power of two, into which a batch is split so that each stays in the cache between operations.
    needed = math.ceil(count * pixels / CACHED_PIXELS)
    return math.gcd(count, 1 << (needed - 1).bit_length())


def _jitter_one(ops, image, order, factors):
    # `color.jitter` for a batch of one: branches in place of selections, so that only the drawn operations run. With
    # `color.jitter` in its place, a pair of 224 pixels takes 0.27 ms longer, 7 % of the pipeline.
    brightness, contrast, saturation, hue = ops.unstack(factors, axis=1)
    # In the order of `color.BRIGHTNESS`, `CONTRAST`, `SATURATION` and `HUE`.
    operations = (
        lambda image: color.blend(ops, image, ops.zeros_like(image), brightness),
        lambda image: color.blend(ops, image, color.mean_gray(ops, color.gray(image)), contrast),
        lambda image: color.blend(ops, image, color.gray(image), saturation),
        lambda image: color.adjust_hue(ops, image, hue),
    )
    for step in range(4):
        image = ops.switch_case(order[0, step], [functools.partial(operation, image) for operation in operations])
    return image


def _blur_of(recipe):
    # If few images are blurred, blurring them one by one is faster than blurring the complete batch: 0.63 of the time
    # of all color operations at 64 pixels with probability 0.1, but 1.16 at 32 pixels with probability 1.
    return color.gaussian_blur if recipe.blur_probability > 0.5 else _blur_chosen


def _blur_chosen(ops, image, sigma, max_sigma):
    # Blurs the chosen images one by one, so that the cost is proportional to their number.
    chosen = ops.argsort(-sigma)

    def blur_next(done, image):
        # `gather` in place of slices: XLA needs the start of a slice at compile time and would compile at every call.
        one = ops.gather(chosen, done[None])
        blurred = color.gaussian_blur(ops, ops.gather(image, one), ops.gather(sigma, one), max_sigma)
        return done + 1, ops.tensor_scatter_nd_update(image, one[None], blurred)

    count = ops.reduce_sum(ops.cast(sigma > 0, "int32"))
    return ops.while_loop(lambda done, _: done < count, blur_next, (0, image))[1]
