"""Encoders that are not Keras models."""

import hashlib
from pathlib import Path

import numpy as np

from keras_siamim.types import PathLike


class SavedModelEncoder:
    """Exported encoder, callable on NumPy images on every backend.

    Attributes:
        image_size: Tuple (height, width) of the images, or `None` if the model accepts any size.
        num_prefix_tokens: Integer. 1 if the first token is a class token, else 0.
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
        self.num_prefix_tokens: int = self._run.num_prefix_tokens
        digest = hashlib.sha256()
        for file in sorted(Path(path).rglob("*")):
            if file.is_file() and file.name != "fingerprint.pb":
                digest.update(str(file.relative_to(path)).encode())
                digest.update(file.read_bytes())
        self.fingerprint = digest.hexdigest()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return the tokens (batch, tokens, width) of images (batch, height, width, 3) float32."""
        return self._run(images)
