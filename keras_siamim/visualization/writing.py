"""Files of figures."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image

from keras_siamim.files import write_atomically
from keras_siamim.types import PathLike


def save_image(path: PathLike, draw: Callable[[], Image.Image]) -> PathLike:
    """Draw an image and write it atomically.

    Args:
        path: Path. File to write; its suffix gives the format.
        draw: Function without arguments that returns a PIL image.

    Returns:
        The path.

    Raises:
        ValueError: If no image format has the suffix. Nothing is drawn or written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in Image.registered_extensions():
        raise ValueError(f"`path` must end in the suffix of an image format, such as .png. Received: {path}.")
    image = draw()
    with write_atomically(path) as file:
        image.save(file, Image.registered_extensions()[suffix])
    return path
