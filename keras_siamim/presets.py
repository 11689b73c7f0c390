"""Models by name or address."""

from pathlib import Path

import keras

RUN_FILES = ("encoder.keras", "model.keras")


def load_model(path):
    """Load what Keras has saved, on any backend.

    Args:
        path: A `.keras` file, or a run's folder that holds `encoder.keras` or `model.keras`.

    Returns:
        The Keras model.

    Raises:
        ValueError: If there is nothing of the kind at `path`.
    """
    path = Path(path)
    found = [path] if path.is_file() else [path / name for name in RUN_FILES if (path / name).is_file()]
    if not found:
        raise ValueError(f"`path` must be a .keras file or a folder with {' or '.join(RUN_FILES)}. Received: {path}.")
    return keras.saving.load_model(found[0], compile=False)
