"""Loading the encoder that is to be judged: a Keras file of any backend, an exported SavedModel, or a run's folder."""

import hashlib
import os
from pathlib import Path

import keras

_RUN_FILES = ("encoder.keras", "model.keras")


class SavedModelEncoder:
    """An exported encoder, callable on (batch, height, width, 3) float32 NumPy images.

    Args:
        path: directory that holds `saved_model.pb`.
    """

    def __init__(self, path):
        from keras_siamim._backend.tensorflow import load_saved_model  # on every backend, when it is needed

        self._run = load_saved_model(path)
        self.image_size = self._run.image_size
        digest = hashlib.sha256()
        for file in sorted(Path(path).rglob("*")):
            if file.is_file() and file.name != "fingerprint.pb":
                digest.update(str(file.relative_to(path)).encode())
                digest.update(file.read_bytes())
        self.fingerprint = digest.hexdigest()

    def __call__(self, images):
        """Return the tokens (batch, 1 + patches, width) of the images."""
        return self._run(images)


def load_encoder(path: str | os.PathLike):
    """Load an encoder for evaluation.

    Args:
        path: a `.keras` file (of an encoder, or of an objective, whose `encoder` is then taken), a SavedModel
            directory, a directory of numbered versions of one (the largest is taken), or a run's folder that holds
            `encoder.keras` or `model.keras`.

    Returns:
        A `keras.Model` or a `SavedModelEncoder`.

    Raises:
        ValueError: if there is nothing at `path`, or nothing that can be loaded.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"`path` must exist; received {str(path)!r}.")
    if path.is_file() and path.suffix != ".keras":  # others may run code when they are loaded
        raise ValueError(f"`path` must be a .keras file or a folder. Received: {path}.")
    if path.is_file():
        model = keras.saving.load_model(path, compile=False)
        encoder = getattr(model, "encoder", model)
        return encoder if isinstance(encoder, keras.Model) else model
    if (path / "saved_model.pb").exists():
        return SavedModelEncoder(path)
    versions = [child for child in path.iterdir() if child.name.isdigit() and (child / "saved_model.pb").exists()]
    if versions:
        return SavedModelEncoder(max(versions, key=lambda child: int(child.name)))
    for name in _RUN_FILES:
        if (path / name).exists():
            return load_encoder(path / name)
    raise ValueError(
        f"`path` must be a .keras file, a SavedModel, or a folder with {' or '.join(_RUN_FILES)}; {str(path)!r} holds "
        f"{sorted(child.name for child in path.iterdir())[:10]}."
    )
