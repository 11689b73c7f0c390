"""Augmentation for fine-tuning in `tf.data`: RandAugment, random erasing, mixup and CutMix.

Input images are in [0, 255], after random resized crop and flip. Output images are normalized, with soft targets.
"""

import keras
import keras_cv
import tensorflow as tf

from keras_siamim.batch import IMAGENET_MEAN, IMAGENET_STD
from keras_siamim.types import ArrayLike, Tensor


# keras-cv's own `RandAugment` is not used: its magnitude 0.9 shears by 0.9 and translates by 90 % of the image, three
# and two times the strength of magnitude 9 of 10 in the paper.
def rand_augment(
    magnitude: float = 9.0, deviation: float = 0.5, operations: int = 2, seed: int | None = None
) -> keras.layers.Layer:
    """Create a RandAugment layer (arXiv 1909.13719) for images in [0, 255].

    The layer chooses `operations` operations per image and applies each with probability 0.5. Strengths are those of
    the paper, with two differences. Brightness is added instead of multiplied, at half the strength. Rotations and
    translations are uniform up to their strength.

    Args:
        magnitude: float in [0, 10]. Strength of the operations. Defaults to 9.
        deviation: float. Standard deviation of the magnitude between images. Defaults to 0.5.
        operations: int, at least 1. Number of operations per image. Defaults to 2.
        seed: int or None. Random seed. Defaults to None.

    Returns:
        A keras-cv layer. It maps `(batch, height, width, 3)` float images in [0, 255] to images of the same shape.

    Raises:
        ValueError: If `magnitude` is outside [0, 10] or `operations` is below 1.

    Example:
        >>> images = np.full((2, 32, 32, 3), 100, "float32")
        >>> tuple(rand_augment(seed=0)(images, training=True).shape)
        (2, 32, 32, 3)
    """
    if not 0 <= magnitude <= 10:
        raise ValueError(f"`magnitude` must be within [0, 10]. Received: {magnitude}.")
    if operations < 1:
        raise ValueError(f"`operations` must be at least 1. Received: {operations}.")
    layers, level = keras_cv.layers, magnitude / 10

    def factor_sampler(strength):
        return keras_cv.core.NormalFactorSampler(
            mean=strength * level, stddev=strength * deviation / 10 + 1e-6, min_value=0.0, max_value=strength
        )

    enhanced = 0.9 * level
    policy = [
        layers.AutoContrast(value_range=(0, 255), seed=seed),
        layers.Equalization(value_range=(0, 255), seed=seed),
        layers.Solarization(value_range=(0, 255), threshold_factor=(255 * (1 - level), 255.0), seed=seed),
        layers.Solarization(value_range=(0, 255), addition_factor=110 * level, threshold_factor=128.0, seed=seed),
        layers.RandomColorDegeneration(factor=factor_sampler(0.9), seed=seed),
        layers.RandomContrast(value_range=(0, 255), factor=max(enhanced, 1e-3), seed=seed),
        layers.RandomBrightness(value_range=(0, 255), factor=enhanced / 2, seed=seed),
        layers.RandomShear(x_factor=factor_sampler(0.3), y_factor=0.0, seed=seed),
        layers.RandomShear(x_factor=0.0, y_factor=factor_sampler(0.3), seed=seed),
        layers.RandomTranslation(width_factor=0.45 * level, height_factor=0.0, seed=seed),
        layers.RandomTranslation(width_factor=0.0, height_factor=0.45 * level, seed=seed),
        layers.RandomRotation(factor=30 / 360 * level, seed=seed),
    ]
    return layers.RandomAugmentationPipeline(policy, augmentations_per_image=operations, rate=0.5, seed=seed)


# Keras's `RandomErasing` samples the two sides independently and clips the noise to the range of the images.
def erase_randomly(images: Tensor, seeds: Tensor, probability: float = 0.25) -> Tensor:
    """Fill a rectangle of some images with N(0, 1) noise (arXiv 1708.04896).

    The rectangle covers a share U(0.02, 1/3) of the image. Its aspect is log-uniform in [0.3, 1/0.3], and its sides are
    limited to those of the image.

    Args:
        images: `(batch, height, width, channels)` float32. Normalized images.
        seeds: `(2,)` int32. Seed of the random parameters.
        probability: float in [0, 1]. Share of the images to erase. Defaults to 0.25.

    Returns:
        `(batch, height, width, channels)` float32.

    Example:
        >>> erased = erase_randomly(tf.zeros((4, 16, 16, 3)), tf.constant([1, 2]), probability=1.0).numpy()
        >>> (erased != 0).any(axis=(1, 2, 3)).tolist()
        [True, True, True, True]
    """
    shape = tf.shape(images)
    samples = tf.random.stateless_uniform((5, shape[0], 1, 1, 1), seeds)
    area, aspect = 0.02 + samples[0] * (1 / 3 - 0.02), tf.exp((2 * samples[1] - 1) * tf.math.log(1 / 0.3))
    height, width = tf.cast(shape[1], tf.float32), tf.cast(shape[2], tf.float32)
    tall, wide = tf.minimum(tf.sqrt(area * aspect), 1.0) * height, tf.minimum(tf.sqrt(area / aspect), 1.0) * width
    top, left = tf.round(samples[2] * (height - tall)), tf.round(samples[3] * (width - wide))
    rows = tf.range(height)[None, :, None, None]
    columns = tf.range(width)[None, None, :, None]
    inside = (rows >= top) & (rows < top + tf.round(tall)) & (columns >= left) & (columns < left + tf.round(wide))
    noise = tf.random.stateless_normal(shape, seeds + 1)
    return tf.where(inside & (samples[4] < probability), noise, images)


def fine_tuning_batches(
    batches: tf.data.Dataset,
    num_classes: int,
    mixup: float = 0.8,
    cutmix: float = 1.0,
    magnitude: float = 9.0,
    erasing: float = 0.25,
    mean: ArrayLike = IMAGENET_MEAN,
    std: ArrayLike = IMAGENET_STD,
    seed: int = 0,
) -> tf.data.Dataset:
    """Apply the fine-tuning augmentation to batches of cropped and flipped images.

    Images are augmented by RandAugment, normalized and randomly erased. Then mixup or CutMix is applied to the complete
    batch, with equal probability and one weight per image. CutMix boxes lie completely inside the image.

    Args:
        batches: `tf.data.Dataset` of (images, labels). Images are `(batch, height, width, 3)` in [0, 255]; labels are
            `(batch,)` integers.
        num_classes: int. Number of classes.
        mixup: float, at least 0. Alpha of mixup's Beta distribution; 0 disables it. Defaults to 0.8.
        cutmix: float in [0, 1]. Alpha of CutMix's Beta distribution; 0 disables it. Defaults to 1.
        magnitude: float in [0, 10]. Magnitude of `rand_augment`; 0 disables it. Defaults to 9.
        erasing: float in [0, 1]. Probability of random erasing. Defaults to 0.25.
        mean: `(3,)` floats. Mean per channel of images in [0, 1]. Defaults to ImageNet's.
        std: `(3,)` floats. Standard deviation per channel of images in [0, 1]. Defaults to ImageNet's.
        seed: int. Seed of all random parameters. Defaults to 0.

    Returns:
        A `tf.data.Dataset` of (images, targets), of the length of `batches`. Images are `(batch, height, width, 3)`
        float32; targets are `(batch, num_classes)` float32.

    Raises:
        ValueError: If `mixup`, `cutmix`, `magnitude` or `erasing` is out of range.

    Example:
        >>> data = tf.data.Dataset.from_tensors((np.zeros((8, 32, 32, 3), "float32"), np.arange(8)))
        >>> images, targets = next(iter(fine_tuning_batches(data, num_classes=10, magnitude=0)))
        >>> tuple(images.shape), tuple(targets.shape)
        ((8, 32, 32, 3), (8, 10))
    """
    for name, value in (("cutmix", cutmix), ("erasing", erasing)):
        if not 0 <= value <= 1:
            raise ValueError(f"`{name}` must be within [0, 1]. Received: {value}.")
    if mixup < 0:
        raise ValueError(f"`mixup` must be at least 0. Received: {mixup}.")
    augment = rand_augment(magnitude, seed=seed) if magnitude else None
    mixers = []
    if mixup:
        mixers.append(keras.layers.MixUp(alpha=mixup, seed=seed))
    if cutmix:
        mixers.append(keras.layers.CutMix(factor=(cutmix, cutmix), seed=seed + 1))

    def augment_batch(step, batch):
        images, labels = tf.cast(batch[0], tf.float32), tf.one_hot(batch[1], num_classes)
        if augment is not None:
            images = augment(images, training=True)
        images = (images / 255 - tf.constant(mean, tf.float32)) / tf.constant(std, tf.float32)
        seeds = tf.stack([tf.constant(seed, tf.int32), tf.cast(step, tf.int32)])
        if erasing:
            images = erase_randomly(images, seeds, erasing)
        if not mixers:
            return images, labels
        mixed = [mixer({"images": images, "labels": labels}, training=True) for mixer in mixers]
        first = tf.random.stateless_uniform((), seeds + 2) < 0.5
        return tuple(tf.where(first, mixed[0][key], mixed[-1][key]) for key in ("images", "labels"))

    return batches.enumerate().map(augment_batch).prefetch(2)
