"""Pairs of views that know how they lie in each other, as a keras-cv layer (arXiv 2206.01204, section 3.2)."""

import functools
import math
import numbers

import keras
import keras_cv
import tensorflow as tf

from keras_siamim import batch
from keras_siamim.data import random
from keras_siamim.data.images import decoding as pixels
from keras_siamim.data.python_calls import numpy_function
from keras_siamim.data.views import color, crops, geometry, on_device_views
from keras_siamim.data.views.recipe import NUMBERS, ONLINE, TARGET, ViewRecipe

IMAGES, INDEX, EPOCH = "images", "index", "epoch"
# Pixels of images that are distorted together: about 3 MB as floats.
CACHED_PIXELS = 1 << 18


@keras.saving.register_keras_serializable(package="keras_siamim")
class PairedViews(keras_cv.layers.BaseImageAugmentationLayer):
    """Cut two differently distorted views from every image and say where the second lies in the first.

    Crop boxes, flips and colors are drawn per image and per view. With an image number and an epoch they depend on
    `(seed, epoch, number)` alone, so parallel workers may take images in any order; without, they come from a generator
    that starts at `seed` and moves on with every call.

    Call arguments:
        inputs: images, or a dict of them (`"images"`) with `"index"`, `(batch,)` or `()` ints, the image numbers, and
            `"epoch"`, an int. Images are `(batch, height, width, channels)` of one size, or one
            `(height, width, channels)` of any size, with 3 channels or 1, which is repeated; uint8, or another dtype in
            one of the ranges of `images.as_bytes`, such as floats of [0, 1] or of [0, 255]. They may be smaller than
            `image_size`: crops are enlarged then.

    Returns:
        A dict of `batch.VIEW_1`, `batch.VIEW_2`, `(batch, *image_size, 3)` float32, normalized, and
        `batch.RELATIVE_AFFINE`, `(batch, 4)` float32; without the batch axis for a single image. With `view_2=None`,
        only the first.

    Args:
        image_size: `(height, width)` of the views, or one int for squares.
        view_1: `ViewRecipe` of the online view, or its arguments as a dict.
        view_2: `ViewRecipe` of the target view, its arguments as a dict, or None for single views.
        seed: int.

    Raises:
        ValueError: a wrong rank, number of channels, value range or dtype.

    Example:
    >>> views = PairedViews(32, seed=1)
    >>> pair = views({"images": np.zeros((2, 48, 64, 3), "uint8"), "index": np.arange(2), "epoch": 0})
    >>> tuple(pair["view_2"].shape), tuple(pair["relative_affine"].shape)
    ((2, 32, 32, 3), (2, 4))
    """

    def __init__(self, image_size, view_1=ONLINE, view_2=TARGET, seed=0, **kwargs):
        super().__init__(seed=seed, **kwargs)
        self.image_size = (image_size, image_size) if isinstance(image_size, numbers.Integral) else tuple(image_size)
        if len(self.image_size) != 2 or min(self.image_size) < 1:
            raise ValueError(f"image_size must be one or two positive ints; received {image_size!r}.")
        self.view_1 = ViewRecipe.of(view_1)
        self.view_2 = None if view_2 is None else ViewRecipe.of(view_2)
        self.seed = seed

    def get_config(self):
        """Return the constructor's arguments."""
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
    def recipes(self):
        """The recipes of the views made, one or two."""
        return (self.view_1,) if self.view_2 is None else (self.view_1, self.view_2)

    def draw(self, index, epoch, height, width):
        """Draw everything random about some images.

        Args:
            index: `(...)` int64 image numbers.
            epoch: int scalar.
            height: `(...)` int32 image heights in pixels.
            width: `(...)` int32 image widths in pixels.

        Returns:
            boxes: `(..., views, 5)` int32 crops.
            numbers: `(..., views, COLOR_NUMBERS)` float32 in [0, 1), what `ViewRecipe.distort` takes.
        """
        return self._draw(random.tf_stream_keys(self.seed, random.VIEWS, epoch, index), height, width)

    def _draw(self, keys, height, width):
        numbers = random.tf_uniforms(keys, NUMBERS * len(self.recipes))
        boxes, rest = [], []
        for recipe, own in zip(self.recipes, tf.split(numbers, len(self.recipes), axis=-1), strict=True):
            boxes.append(
                crops.draw_crop(
                    own[..., : crops.NUMBERS],
                    height,
                    width,
                    area=recipe.area,
                    aspect=recipe.aspect,
                    flip_probability=recipe.flip_probability,
                )
            )
            rest.append(own[..., crops.NUMBERS :])
        return tf.stack(boxes, axis=-2), tf.stack(rest, axis=-2)

    def cut(self, image, boxes):
        """Resample the views of one image of any size: `(views, *image_size, 3)` uint8."""
        return tf.stack([crops.crop_and_resize(image, box, self.image_size) for box in tf.unstack(boxes)])

    def color(self, cut, numbers):
        """Distort and normalize resampled views, one after the other while each is in the cache, compiled by XLA.

        Args:
            cut: `(batch, views, *image_size, 3)` uint8.
            numbers: `(batch, views, COLOR_NUMBERS)` float32.

        Returns:
            A list of `(batch, *image_size, 3)` float32, one for each view.
        """

        def one(image):
            cut, numbers = image
            return [_compiled_color(recipe)(cut[k], numbers[k]) for k, recipe in enumerate(self.recipes)]

        return tf.map_fn(one, (cut, numbers), fn_output_signature=[tf.float32] * len(self.recipes))

    def cut_and_color(self, images, boxes, numbers):
        """Both steps at once for images of one size, `(batch, height, width, 3)` uint8; the fastest road."""
        return [
            _compiled_views(recipe, self.image_size)(images, boxes[:, k], numbers[:, k])
            for k, recipe in enumerate(self.recipes)
        ]

    def render(self, raw):
        """Make the views of a raw batch, as `on_device_views.RenderViews` does on the training device."""
        if on_device_views.CUT in raw:
            views = self.color(raw[on_device_views.CUT], raw[on_device_views.NUMBERS])
        else:
            views = self.cut_and_color(
                raw[on_device_views.IMAGES], raw[on_device_views.BOXES], raw[on_device_views.NUMBERS]
            )
        return dict(zip((batch.VIEW_1, batch.VIEW_2), views, strict=False))

    def relative_geometry(self, boxes, width):
        """Say how the views lie in each other.

        Args:
            boxes: `(..., views, 5)` int32 crops.
            width: `(...)` int32 image widths in pixels.

        Returns:
            A dict of `batch.RELATIVE_AFFINE`, `(..., 4)` float32; empty for single views.
        """
        if self.view_2 is None:
            return {}
        pair = tf.cast(boxes, tf.float32)
        found = geometry.pair_geometry(pair[..., 0, :], pair[..., 1, :], tf.cast(width, tf.float32))
        return {batch.RELATIVE_AFFINE: geometry.relative_affine(found, xp=tf)}

    def __call__(self, inputs):
        """Make the views; see the class."""
        # Keras refuses a dict that mixes tensors with numbers or arrays, which a caller may well have.
        if isinstance(inputs, dict):
            inputs = {key: tf.convert_to_tensor(value) for key, value in inputs.items()}
        return super().__call__(inputs)

    def _batch_augment(self, inputs):
        images = inputs[IMAGES]
        shape = tf.shape(images)
        boxes, numbers = self._draw(self._keys(inputs, shape[:1]), shape[1], shape[2])
        raw = {on_device_views.IMAGES: images, on_device_views.BOXES: boxes, on_device_views.NUMBERS: numbers}
        return {**self.render(raw), **self.relative_geometry(boxes, shape[2])}

    def _augment(self, inputs):
        image = inputs[IMAGES]
        shape = tf.shape(image)
        boxes, numbers = self._draw(self._keys(inputs, []), shape[0], shape[1])
        views = self.render({on_device_views.CUT: self.cut(image, boxes)[None], on_device_views.NUMBERS: numbers[None]})
        return {**{name: view[0] for name, view in views.items()}, **self.relative_geometry(boxes, shape[1])}

    def _keys(self, inputs, shape):
        if INDEX not in inputs:
            return self._random_generator.uniform_full_int(shape, tf.uint64)
        index = tf.broadcast_to(tf.cast(inputs[INDEX], tf.int64), shape)
        return random.tf_stream_keys(self.seed, random.VIEWS, inputs.get(EPOCH, 0), index)

    def _ensure_inputs_are_compute_dtype(self, inputs):
        # The base class would make floats of everything: pixels stay bytes and image numbers stay whole.
        inputs = dict(inputs) if isinstance(inputs, dict) else {IMAGES: inputs}
        inputs[IMAGES] = checked_images(inputs[IMAGES])
        return inputs

    def _format_inputs(self, inputs):
        return inputs, None

    def _format_output(self, output, metadata):
        return output


def checked_images(images):
    """Bring images to uint8 RGB, or say what is wrong with them.

    Args:
        images: `(height, width, channels)` or `(batch, height, width, channels)`, 1 or 3 channels, of a dtype and
            range that `images.as_bytes` takes.

    Returns:
        A uint8 tensor with 3 channels.
    """
    images = tf.convert_to_tensor(images)
    if images.shape.rank not in (3, 4):
        raise ValueError(
            "images must be (height, width, channels) or (batch, height, width, channels); "
            f"received shape {tuple(images.shape)}."
        )
    if images.shape[-1] not in (1, 3):
        raise ValueError(f"images must have 3 channels, or 1 to be repeated; received {images.shape[-1]}.")
    if 0 in images.shape[-3:-1]:
        raise ValueError(f"images must have at least one pixel; received shape {tuple(images.shape)}.")
    if images.dtype != tf.uint8:
        images = _as_bytes(images)
    return tf.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def _as_bytes(images):
    if tf.executing_eagerly():
        return tf.constant(pixels.as_bytes(images.numpy()))
    # In a graph the values are checked when it runs.
    return tf.ensure_shape(numpy_function(pixels.as_bytes, [images], tf.uint8, stateful=False), images.shape)


@functools.lru_cache
def _compiled_color(recipe):
    @tf.function(jit_compile=True)
    def compiled(cut, numbers):
        image = color.bands(tf, cut[None])
        return color.normalize(tf, recipe.distort(tf, image, numbers[None], _jitter_one, _blur_one))[0]

    return compiled


@functools.lru_cache
def _compiled_views(recipe, size):
    def make(images, boxes, numbers):
        cut = crops.crop_and_resize_equal(tf, color.bands(tf, images), boxes, size)
        return color.normalize(tf, recipe.distort(tf, cut, numbers, blur=_blur_of(recipe)))

    @tf.function(jit_compile=True)
    def compiled(images, boxes, numbers):
        pieces = _pieces(images.shape[0] or 1, max(math.prod(size), math.prod(images.shape[1:3])))
        if pieces == 1:
            return make(images, boxes, numbers)
        split = [tf.reshape(values, (pieces, -1, *values.shape[1:])) for values in (images, boxes, numbers)]
        made = tf.map_fn(lambda piece: make(*piece), split, fn_output_signature=tf.float32)
        return tf.reshape(made, (-1, *size, 3))

    return compiled


def _pieces(count, pixels):
    # Into how many equal parts, a power of two, so many images are best divided to stay in the cache from step to step.
    needed = math.ceil(count * pixels / CACHED_PIXELS)
    return math.gcd(count, 1 << (needed - 1).bit_length())


def _jitter_one(ops, image, order, factors):
    # `color.jitter` for a batch of one: branches in the place of selections, so that only what was drawn is computed.
    brightness, contrast, saturation, hue = ops.unstack(factors, axis=1)
    # In the order of `color.BRIGHTNESS` and so on.
    operations = (
        lambda image: color.blend(ops, image, ops.zeros_like(image), brightness),
        lambda image: color.blend(ops, image, color.mean_gray(ops, color.gray(image)), contrast),
        lambda image: color.blend(ops, image, color.gray(image), saturation),
        lambda image: color.adjust_hue(ops, image, hue),
    )
    for place in range(4):
        image = ops.switch_case(order[0, place], [functools.partial(operation, image) for operation in operations])
    return image


def _blur_one(ops, image, sigma, widest):
    return ops.cond(sigma[0] > 0, lambda: color.gaussian_blur(ops, image, sigma, widest), lambda: image)


def _blur_of(recipe):
    # The fastest way to blur a batch of small images of which so many are blurred.
    return color.gaussian_blur if recipe.blur_probability > 0.5 else _blur_chosen


def _blur_chosen(ops, image, sigma, widest):
    # One after the other in their places, so that a blur that one view in ten gets is paid by one in ten.
    chosen = ops.argsort(-sigma)

    def blur_next(done, image):
        # By `gather`: what a slice begins with has to be known when XLA compiles, which then happens at every call.
        one = ops.gather(chosen, done[None])
        blurred = color.gaussian_blur(ops, ops.gather(image, one), ops.gather(sigma, one), widest)
        return done + 1, ops.tensor_scatter_nd_update(image, one[None], blurred)

    count = ops.reduce_sum(ops.cast(sigma > 0, "int32"))
    return ops.while_loop(lambda done, _: done < count, blur_next, (0, image))[1]
