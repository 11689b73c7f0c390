"""Fixtures of all tests."""

import pathlib

import keras
import numpy as np
import pytest

REFERENCE = pathlib.Path(__file__).parent / "reference"


def pytest_collection_modifyitems(config, items):
    """Run tests that do not depend on the backend on TensorFlow only."""
    if keras.config.backend() == "tensorflow":
        return
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("one_backend")])
    items[:] = [item for item in items if not item.get_closest_marker("one_backend")]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def reference():
    """Function from a file name to the path of that reference file."""
    return REFERENCE.joinpath
