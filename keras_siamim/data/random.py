"""Random numbers without state: every image's draws are a function of (seed, epoch, image number) alone.

No generator is advanced, so the order in which parallel workers happen to reach the images cannot matter, and a run
can start again at any image. The mixer is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), whose n-th output is a
hash of key + n * GAMMA. `stream_keys` and `uniforms` are NumPy; `tf_stream_keys` and `tf_uniforms` give the same bits
inside a TensorFlow graph.
"""

import numpy as np

GAMMA = 0x9E3779B97F4A7C15
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)

# One independent stream of draws for each purpose.
VIEWS, MASKS, ORDER, FILES = 1, 2, 3, 4


def _mix(state):
    for shift, multiplier in zip(SHIFTS[:2], MULTIPLIERS, strict=True):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(multiplier)
    return state ^ (state >> np.uint64(SHIFTS[2]))


def stream_keys(seed, stream, epoch, index):
    """Keys of independent streams of draws.

    Args:
        seed: int, the run's seed.
        stream: int, the purpose: `VIEWS`, `MASKS`, `ORDER` or `FILES`.
        epoch: int.
        index: `(images,)` ints, the image numbers.

    Returns:
        `(images,)` uint64 keys.
    """
    key = np.zeros(1, np.uint64)
    for part in (seed, stream, epoch, index):
        # Through int64, so that negative seeds wrap instead of failing.
        words = np.atleast_1d(np.asarray(part, np.int64)).astype(np.uint64)
        key = _mix(key + words * np.uint64(GAMMA) + np.uint64(GAMMA))
    return key


def uniforms(keys, count, first=0):
    """Draw numbers `first ... first + count - 1` of each stream.

    Args:
        keys: `(images,)` uint64.
        count: how many numbers.
        first: number of the first one.

    Returns:
        `(images, count)` float32 in [0, 1), multiples of 2**-24.
    """
    counters = (np.arange(first, first + count) + 1).astype(np.uint64) * np.uint64(GAMMA)
    return (_mix(keys[:, None] + counters) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def permutation(seed, stream, epoch, size):
    """Order `size` things as seed, stream and epoch determine: `(size,)` int64."""
    return np.argsort(stream_keys(seed, stream, epoch, np.arange(size)), kind="stable")


def _tf_mix(state):
    import tensorflow as tf

    shift, xor = tf.bitwise.right_shift, tf.bitwise.bitwise_xor
    for bits, multiplier in zip(SHIFTS[:2], MULTIPLIERS, strict=True):
        state = xor(state, shift(state, tf.constant(bits, tf.uint64))) * tf.constant(multiplier, tf.uint64)
    return xor(state, shift(state, tf.constant(SHIFTS[2], tf.uint64)))


def tf_stream_keys(seed, stream, epoch, index):
    """`stream_keys` as graph ops.

    Args:
        seed: int or int64 scalar tensor.
        stream: int.
        epoch: int or int64 scalar tensor.
        index: `(...)` int64 tensor.

    Returns:
        `(...)` uint64 tensor.
    """
    import tensorflow as tf

    gamma, key = tf.constant(GAMMA, tf.uint64), tf.constant(0, tf.uint64)
    for part in (seed, stream, epoch, index):
        key = _tf_mix(key + tf.bitcast(tf.cast(part, tf.int64), tf.uint64) * gamma + gamma)
    return key


def tf_uniforms(keys, count, first=0):
    """`uniforms` as graph ops: `(...)` uint64 keys to `(..., count)` float32; `first` may be an int64 scalar tensor."""
    import tensorflow as tf

    first = tf.bitcast(tf.cast(first, tf.int64), tf.uint64)
    counters = (first + tf.constant((np.arange(count) + 1).astype(np.uint64))) * tf.constant(GAMMA, tf.uint64)
    bits = tf.bitwise.right_shift(_tf_mix(keys[..., None] + counters), tf.constant(40, tf.uint64))
    return tf.cast(tf.cast(bits, tf.int32), tf.float32) * 2.0**-24
