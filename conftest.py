"""Fixtures for doctests. Doctests run on TensorFlow only; the tests in `tests` run on all three backends."""

import os
import pathlib

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest

PACKAGE = pathlib.Path(__file__).parent / "keras_siamim"


def pytest_ignore_collect(collection_path):
    """Skip doctests on other backends. `collect_ignore` would not: `testpaths` names the package explicitly."""
    if keras.config.backend() != "tensorflow" and collection_path.is_relative_to(PACKAGE):
        return True
    return None


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace):
    import keras_siamim

    doctest_namespace.update({name: getattr(keras_siamim, name) for name in keras_siamim.__all__}, keras=keras, np=np)
