"""Augmentation for fine-tuning, in `tf.data`: RandAugment, random erasing, mixup and CutMix.

What comes before (random resized crop, flip) gives images in 0...255; what leaves is normalized, with soft targets.
"""

import keras
import keras_cv
import tensorflow as tf

from keras_siamim.batch import IMAGENET_MEAN, IMAGENET_STD


def rand_augment(magnitude: float = 9.0, deviation: float = 0.5, operations: int = 2, seed: int | None = None):
    """Return RandAugment (arXiv 1909.13719) for images in 0...255, of keras-cv's layers at its strengths.

    Each of `operations` times an operation is drawn per image and applied with probability 0.5. keras-cv's own
    `RandAugment` is not used: its magnitude 0.9 shears by 0.9 and shifts by 90 % of the image, three and two times as
    far as magnitude 9 of 10 in the paper. Two differences remain: brightness is added, not multiplied (at half the
    strength), and rotations and shifts are uniform up to their strength.

    Args:
        magnitude: strength of the operations, 0...10.
        deviation: standard deviation of the magnitude from image to image.
        operations: how many operations follow each other.
        seed: of the draws.

    Returns:
        A keras-cv layer from float images (batch, height, width, 3) to the same.

    Raises:
        ValueError: if `magnitude` is outside 0...10, or `operations` below 1.
    """
    if not 0 <= magnitude <= 10:
        raise ValueError(f"`magnitude` must be in 0...10; received {magnitude}.")
    if operations < 1:
        raise ValueError(f"`operations` must be 1 or more; received {operations}.")
    layers, level = keras_cv.layers, magnitude / 10

    def around(strength):
        return keras_cv.core.NormalFactorSampler(
            mean=strength * level, stddev=strength * deviation / 10 + 1e-6, min_value=0.0, max_value=strength
        )

    enhanced = 0.9 * level
    policy = [
        layers.AutoContrast(value_range=(0, 255), seed=seed),
        layers.Equalization(value_range=(0, 255), seed=seed),
        layers.Solarization(value_range=(0, 255), threshold_factor=(255 * (1 - level), 255.0), seed=seed),
        layers.Solarization(value_range=(0, 255), addition_factor=110 * level, threshold_factor=128.0, seed=seed),
        layers.RandomColorDegeneration(factor=around(0.9), seed=seed),
        layers.RandomContrast(value_range=(0, 255), factor=max(enhanced, 1e-3), seed=seed),
        layers.RandomBrightness(value_range=(0, 255), factor=enhanced / 2, seed=seed),
        layers.RandomShear(x_factor=around(0.3), y_factor=0.0, seed=seed),
        layers.RandomShear(x_factor=0.0, y_factor=around(0.3), seed=seed),
        layers.RandomTranslation(width_factor=0.45 * level, height_factor=0.0, seed=seed),
        layers.RandomTranslation(width_factor=0.0, height_factor=0.45 * level, seed=seed),
        layers.RandomRotation(factor=30 / 360 * level, seed=seed),
    ]
    return layers.RandomAugmentationPipeline(policy, augmentations_per_image=operations, rate=0.5, seed=seed)


def erase_randomly(images, seeds, probability: float = 0.25):
    """Fill a rectangle of some images with noise (arXiv 1708.04896), as `N(0, 1)` per pixel of normalized images.

    The rectangle covers U(0.02, 1/3) of the image with an aspect log-uniform in 0.3...1/0.3, sides cut to the image.
    (Keras's `RandomErasing` draws the two sides independently and clips the noise to the range of the images.)

    Args:
        images: (batch, height, width, channels) float32, normalized.
        seeds: (2,) int32, of these draws.
        probability: share of the images, 0...1.

    Returns:
        (batch, height, width, channels) float32.
    """
    shape = tf.shape(images)
    draws = tf.random.stateless_uniform((5, shape[0], 1, 1, 1), seeds)
    area, aspect = 0.02 + draws[0] * (1 / 3 - 0.02), tf.exp((2 * draws[1] - 1) * tf.math.log(1 / 0.3))
    height, width = tf.cast(shape[1], tf.float32), tf.cast(shape[2], tf.float32)
    tall, wide = tf.minimum(tf.sqrt(area * aspect), 1.0) * height, tf.minimum(tf.sqrt(area / aspect), 1.0) * width
    top, left = tf.round(draws[2] * (height - tall)), tf.round(draws[3] * (width - wide))
    rows = tf.range(height)[None, :, None, None]
    columns = tf.range(width)[None, None, :, None]
    inside = (rows >= top) & (rows < top + tf.round(tall)) & (columns >= left) & (columns < left + tf.round(wide))
    noise = tf.random.stateless_normal(shape, seeds + 1)
    return tf.where(inside & (draws[4] < probability), noise, images)


def fine_tuning_batches(
    batches,
    num_classes: int,
    mixup: float = 0.8,
    cutmix: float = 1.0,
    magnitude: float = 9.0,
    erasing: float = 0.25,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    seed: int = 0,
) -> tf.data.Dataset:
    """Turn batches of cropped, flipped images into what fine-tuning trains on.

    RandAugment, normalization, erasing, then for the whole batch either mixup or CutMix, each half of the time, with
    weights drawn per image (Keras's `MixUp` and `CutMix`; CutMix's boxes lie wholly inside the image).

    Args:
        batches: `tf.data.Dataset` of (images, labels): (batch, height, width, 3) in 0...255, (batch,) integers.
        num_classes: number of classes.
        mixup: alpha of mixup's Beta distribution; 0 for none.
        cutmix: alpha of CutMix's, in 0...1; 0 for none.
        magnitude: of `rand_augment`; 0 for none.
        erasing: probability of erasing, 0...1.
        mean: of the normalization, per channel of images in 0...1.
        std: of the normalization.
        seed: of all draws.

    Returns:
        A `tf.data.Dataset` of (images float32 (batch, height, width, 3), targets float32 (batch, num_classes)), as long
        as `batches`.

    Raises:
        ValueError: if a setting is out of its range.
    """
    for name, value in (("cutmix", cutmix), ("erasing", erasing)):
        if not 0 <= value <= 1:
            raise ValueError(f"`{name}` must be in 0...1; received {value}.")
    if mixup < 0:
        raise ValueError(f"`mixup` must be 0 or more; received {mixup}.")
    augment = rand_augment(magnitude, seed=seed) if magnitude else None
    mixers = []
    if mixup:
        mixers.append(keras.layers.MixUp(alpha=mixup, seed=seed))
    if cutmix:
        mixers.append(keras.layers.CutMix(factor=(cutmix, cutmix), seed=seed + 1))

    def step(number, batch):
        images, labels = tf.cast(batch[0], tf.float32), tf.one_hot(batch[1], num_classes)
        if augment is not None:
            images = augment(images, training=True)
        images = (images / 255 - tf.constant(mean, tf.float32)) / tf.constant(std, tf.float32)
        seeds = tf.stack([tf.constant(seed, tf.int32), tf.cast(number, tf.int32)])
        if erasing:
            images = erase_randomly(images, seeds, erasing)
        if not mixers:
            return images, labels
        mixed = [mixer({"images": images, "labels": labels}, training=True) for mixer in mixers]
        first = tf.random.stateless_uniform((), seeds + 2) < 0.5
        return tuple(tf.where(first, mixed[0][key], mixed[-1][key]) for key in ("images", "labels"))

    return batches.enumerate().map(step).prefetch(2)
