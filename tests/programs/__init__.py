"""Programs that tests run in separate processes."""

import sys

import keras


def hide_tensorflow() -> None:
    """Let Keras run without TensorFlow, which it would import in every process, unless it is the backend."""
    if keras.config.backend() != "tensorflow":
        sys.modules.setdefault("tensorflow", None)
