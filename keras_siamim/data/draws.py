"""Random numbers without state: every image's draws are a function of (seed, epoch, image number) alone.

No generator is advanced, so the order in which parallel workers happen to reach the images cannot matter, and a run
can start again at any image. The mixer is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), whose n-th output is a
hash of key + n * GAMMA. `stream_keys` and `uniforms` are NumPy; `tf_*` are the same bits as TensorFlow graph ops.
"""

import numpy as np

GAMMA = 0x9E3779B97F4A7C15
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)

# One independent stream of draws for each purpose.
VIEWS, MASKS, ORDER = 1, 2, 3


def _mix(state):
    for shift, multiplier in zip(SHIFTS[:2], MULTIPLIERS, strict=True):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(multiplier)
    return state ^ (state >> np.uint64(SHIFTS[2]))


def _words(values):
    # Through int64, so that negative seeds wrap instead of failing.
    return np.atleast_1d(np.asarray(values, np.int64)).astype(np.uint64)


def stream_keys(seed, stream, epoch, index):
    """Keys of independent streams of draws.

    Args:
        seed: int, the run's seed.
        stream: int, the purpose: `VIEWS`, `MASKS` or `ORDER`.
        epoch: int.
        index: `(images,)` ints, the image numbers.

    Returns:
        `(images,)` uint64 keys.
    """
    key = np.zeros(1, np.uint64)
    for part in (seed, stream, epoch, index):
        key = _mix(key + _words(part) * np.uint64(GAMMA) + np.uint64(GAMMA))
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
