"""Fixtures for doctests. Doctests run on TensorFlow only; the tests in `tests` run on all three backends."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest

collect_ignore = [] if keras.config.backend() == "tensorflow" else ["keras_siamim"]


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace):
    import keras_siamim

    doctest_namespace.update({name: getattr(keras_siamim, name) for name in keras_siamim.__all__}, keras=keras, np=np)
