"""Stateless random numbers: a function of seed, stream, epoch and image index.

No generator state is advanced. Parallel workers may therefore process images in any order, and a run can resume at any
image. The generator is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), whose n-th output is a hash of key + n * GAMMA.
`stream_keys` and `uniforms` use NumPy; `tf_stream_keys` and `tf_uniforms` return the same bits in a TensorFlow graph.
"""

import numpy as np

from keras_siamim.types import ArrayLike, Tensor

GAMMA = 0x9E3779B97F4A7C15
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)

# One independent stream per purpose.
VIEWS, MASKS, ORDER, FILES, CROPS, REPEATS = range(1, 7)


def _mix(state):
    for shift, multiplier in zip(SHIFTS[:2], MULTIPLIERS, strict=True):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(multiplier)
    return state ^ (state >> np.uint64(SHIFTS[2]))


def stream_keys(seed: int, stream: int, epoch: int, index: ArrayLike) -> np.ndarray:
    """Return the keys of independent random streams, one per image.

    Args:
        seed: int. Seed of the run.
        stream: int. One of the purposes above, such as `VIEWS`.
        epoch: int. Epoch.
        index: `(images,)` ints. Image indices.

    Returns:
        `(images,)` uint64 keys.

    Example:
        >>> len(np.unique(stream_keys(0, VIEWS, 0, np.arange(1000))))
        1000
    """
    key = np.zeros(1, np.uint64)
    for part in (seed, stream, epoch, index):
        # Through int64, so that negative seeds wrap instead of failing.
        words = np.atleast_1d(np.asarray(part, np.int64)).astype(np.uint64)
        key = _mix(key + words * np.uint64(GAMMA) + np.uint64(GAMMA))
    return key


def uniforms(keys: np.ndarray, count: int, first: int = 0) -> np.ndarray:
    """Return the samples with indices in [first, first + count) of each stream.

    Args:
        keys: `(images,)` uint64. Keys of `stream_keys`.
        count: int. Number of samples per stream.
        first: int. Index of the first sample. Defaults to 0.

    Returns:
        `(images, count)` float32 in [0, 1), multiples of 2**-24.

    Example:
        >>> keys = stream_keys(0, MASKS, 0, [4])
        >>> bool((uniforms(keys, 5, first=10) == uniforms(keys, 15)[:, 10:]).all())
        True
    """
    counters = (np.arange(first, first + count) + 1).astype(np.uint64) * np.uint64(GAMMA)
    return (_mix(keys[:, None] + counters) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def permutation(seed: int, stream: int, epoch: int, size: int) -> np.ndarray:
    """Return a random permutation determined by seed, stream and epoch.

    Args:
        seed: int. Seed of the run.
        stream: int. One of the purposes above, such as `VIEWS`.
        epoch: int. Epoch.
        size: int. Length of the permutation.

    Returns:
        `(size,)` int64, a permutation of [0, size).

    Example:
        >>> sorted(permutation(0, ORDER, 0, 4).tolist())
        [0, 1, 2, 3]
    """
    return np.argsort(stream_keys(seed, stream, epoch, np.arange(size)), kind="stable")


def _tf_mix(state):
    import tensorflow as tf

    shift, xor = tf.bitwise.right_shift, tf.bitwise.bitwise_xor
    for bits, multiplier in zip(SHIFTS[:2], MULTIPLIERS, strict=True):
        state = xor(state, shift(state, tf.constant(bits, tf.uint64))) * tf.constant(multiplier, tf.uint64)
    return xor(state, shift(state, tf.constant(SHIFTS[2], tf.uint64)))


def tf_stream_keys(seed: Tensor, stream: int, epoch: Tensor, index: Tensor) -> Tensor:
    """Return the keys of `stream_keys`, computed by TensorFlow.

    Args:
        seed: int or int64 scalar tensor. Seed of the run.
        stream: int. One of the purposes above, such as `VIEWS`.
        epoch: int or int64 scalar tensor. Epoch.
        index: `(...)` int64 tensor. Image indices.

    Returns:
        `(...)` uint64 tensor.

    Example:
        >>> bool((tf_stream_keys(0, VIEWS, 3, [7, 8]).numpy() == stream_keys(0, VIEWS, 3, [7, 8])).all())
        True
    """
    import tensorflow as tf

    gamma, key = tf.constant(GAMMA, tf.uint64), tf.constant(0, tf.uint64)
    for part in (seed, stream, epoch, index):
        key = _tf_mix(key + tf.bitcast(tf.cast(part, tf.int64), tf.uint64) * gamma + gamma)
    return key


def tf_uniforms(keys: Tensor, count: int, first: int | Tensor = 0) -> Tensor:
    """Return the samples of `uniforms`, computed by TensorFlow.

    Args:
        keys: `(...)` uint64 tensor. Keys of `tf_stream_keys`.
        count: int. Number of samples per stream.
        first: int or int64 scalar tensor. Index of the first sample in its stream. Defaults to 0.

    Returns:
        `(..., count)` float32 tensor in [0, 1).

    Example:
        >>> tuple(tf_uniforms(tf_stream_keys(0, VIEWS, 3, [7, 8]), 5).shape)
        (2, 5)
    """
    import tensorflow as tf

    first = tf.bitcast(tf.cast(first, tf.int64), tf.uint64)
    counters = (first + tf.constant((np.arange(count) + 1).astype(np.uint64))) * tf.constant(GAMMA, tf.uint64)
    bits = tf.bitwise.right_shift(_tf_mix(keys[..., None] + counters), tf.constant(40, tf.uint64))
    return tf.cast(tf.cast(bits, tf.int32), tf.float32) * 2.0**-24
