"""Loading of the encoder to evaluate: a Keras file of any backend, an exported SavedModel, or the folder of a run."""

import hashlib
from pathlib import Path

import keras
import numpy as np

from keras_siamim.types import PathLike

_RUN_FILES = ("encoder.keras", "model.keras")


class SavedModelEncoder:
    """Exported encoder, callable on NumPy images on every backend.

    Attributes:
        image_size: Tuple (height, width) of the images, or `None` if the model accepts any size.
        fingerprint: String. Hash of the exported files, the cache key of `extract_features`.

    Args:
        path: Path of the directory that holds `saved_model.pb`.

    Raises:
        ValueError: If no signature maps one batch of float32 images to one tensor (batch, tokens, width).
    """

    def __init__(self, path: PathLike):
        from keras_siamim._backend.tensorflow import load_saved_model  # other backends need TensorFlow only here

        self._run = load_saved_model(path)
        self.image_size: tuple[int, int] | None = self._run.image_size
        digest = hashlib.sha256()
        for file in sorted(Path(path).rglob("*")):
            if file.is_file() and file.name != "fingerprint.pb":
                digest.update(str(file.relative_to(path)).encode())
                digest.update(file.read_bytes())
        self.fingerprint = digest.hexdigest()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return the tokens (batch, 1 + patches, width) of images (batch, height, width, 3) float32."""
        return self._run(images)


def load_encoder(path: PathLike) -> keras.Model | SavedModelEncoder:
    """Load an encoder for evaluation.

    Args:
        path: Path of one of these:
            a `.keras` file of an encoder or of an objective, whose `encoder` is loaded;
            a SavedModel directory;
            a directory of numbered SavedModels, whose largest number is loaded;
            the folder of a run with `encoder.keras` or `model.keras`.

    Returns:
        A `keras.Model` or a `SavedModelEncoder`.

    Raises:
        ValueError: If `path` does not exist or is none of these.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"`path` must exist. Received: {str(path)!r}.")
    if path.is_file() and path.suffix != ".keras":  # other formats may run code when they are loaded
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
        f"`path` must be a .keras file, a SavedModel, or a folder with {' or '.join(_RUN_FILES)}. Received: "
        f"{str(path)!r} with {sorted(child.name for child in path.iterdir())[:10]}."
    )
