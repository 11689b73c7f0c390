"""Figures drawn while a model trains."""

import keras
import numpy as np
import pytest
from PIL import Image

from keras_siamim.callbacks import Figures
from keras_siamim.visualization.model_figures import Figure

# Nothing in it depends on the backend, and PyTorch compiles nothing.
pytestmark = pytest.mark.one_backend("torch")


def trained(callback, epochs=3):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=epochs, verbose=0, callbacks=[callback]).history


def test_a_figure_that_fails_is_reported_once_and_the_others_are_drawn(tmp_path):
    def fail():
        raise RuntimeError("no font")

    def draw():
        return Figure(Image.new("RGB", (4, 4)), {"retrieval": 0.5})

    lines = []
    history = trained(Figures(tmp_path, {"broken": fail, "fine": draw}, every_epochs=1, report=lines.append))
    assert lines == ["no figure broken: no font. Training goes on."]
    assert len(history["loss"]) == 3
    assert history["retrieval"] == [0.5] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"fine-{epoch:04d}.png" for epoch in (1, 2, 3)]


def test_figures_are_drawn_at_their_interval_and_after_the_last_epoch(tmp_path):
    trained(Figures(tmp_path, {"one": lambda: Figure(Image.new("RGB", (4, 4)), {})}, every_epochs=2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one-0002.png", "one-0003.png"]
