"""Fixtures for all tests."""

import gc
import itertools
import os
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

# Graphs in tests run a few times only, so that optimizing them costs more than it saves: a third of all processor time.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

REFERENCE = pathlib.Path(__file__).parent / "reference"


def pytest_collection_modifyitems(config, items):
    """Deselect tests marked `one_backend` on all backends but theirs, by default TensorFlow or `ONE_BACKEND`."""
    default = os.environ.get("ONE_BACKEND", "tensorflow")

    def runs_elsewhere(item):
        mark = item.get_closest_marker("one_backend")
        return mark is not None and keras.config.backend() != (mark.args[0] if mark.args else default)

    config.hook.pytest_deselected(items=list(filter(runs_elsewhere, items)))
    items[:] = itertools.filterfalse(runs_elsewhere, items)


def pytest_collection_finish():
    """Collect garbage more rarely, and never look at imported modules again: it took a seventh of all time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def reference():
    """Return a function from the name of a reference file to its path."""
    return REFERENCE.joinpath


@pytest.fixture
def batches_in_memory(monkeypatch):
    """Let commands read each split once: their protocols iterate often, and a pipeline takes long to start."""
    from keras_siamim.cli.labeled_batches import Batches

    read = Batches.__iter__

    def iterate(batches):
        if not hasattr(batches, "in_memory"):
            batches.in_memory = list(read(batches))
        return iter(batches.in_memory)

    monkeypatch.setattr(Batches, "__iter__", iterate)
