"""Two real photographs that come with scikit-learn, 427 x 640."""

import functools

import numpy as np
from sklearn.datasets import load_sample_images


@functools.cache
def photographs():
    """`(2, 427, 640, 3)` uint8."""
    return np.stack(load_sample_images().images)
