"""Encoders from files that Keras wrote."""

from pathlib import Path

import keras

RUN_FILES = ("encoder.keras", "model.keras")


def load_encoder(path):
    """Load an encoder that any backend has saved.

    Args:
        path: A `.keras` file of an encoder or of an objective, whose `encoder` is then taken; or a run's folder that
            holds `encoder.keras` or `model.keras`.

    Returns:
        A Keras model from images to tokens.

    Raises:
        ValueError: If there is nothing of the kind at `path`.
    """
    path = Path(path)
    found = [path] if path.is_file() else [path / name for name in RUN_FILES if (path / name).is_file()]
    if not found:
        raise ValueError(f"`path` must be a .keras file or a folder with {' or '.join(RUN_FILES)}. Received: {path}.")
    model = keras.saving.load_model(found[0], compile=False)
    return getattr(model, "encoder", model)
