"""Event files for TensorBoard: numbers and images."""

import io
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from PIL import Image

from keras_siamim.types import PathLike


class EventWriter:
    """Writer of one event file, created with its folder at the first entry.

    An event file is a TFRecord of `Event` messages, so that it can be written without the package TensorBoard. Without
    TensorFlow nothing is written.

    Args:
        folder: Path of the folder of event files.
    """

    def __init__(self, folder: PathLike):
        self.folder = folder
        self._file: Any = None

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers.

        Args:
            step: Integer. Position on the horizontal axis.
            values: Dictionary from names to numbers.
        """
        self._write(step, [{"tag": name, "simple_value": float(value)} for name, value in values.items()])

    def images(self, step: int, images: Mapping[str, Image.Image]) -> None:
        """Write images.

        Args:
            step: Integer. Position on the horizontal axis.
            images: Dictionary from names to PIL images.
        """
        self._write(step, [{"tag": name, "image": _message(image)} for name, image in images.items()])

    def _write(self, step, values):
        try:
            import tensorflow as tf
        except ImportError:
            return
        now, message = time.time(), tf.compat.v1.Event
        if self._file is None:
            os.makedirs(self.folder, exist_ok=True)
            name = f"events.out.tfevents.{int(now)}.{socket.gethostname()}.{os.getpid()}"
            self._file = tf.io.TFRecordWriter(os.path.join(self.folder, name))
            self._file.write(message(wall_time=now, file_version="brain.Event:2").SerializeToString())
        self._file.write(message(wall_time=now, step=step, summary={"value": values}).SerializeToString())
        self._file.flush()


def _message(image):
    file = io.BytesIO()
    image.convert("RGB").save(file, "PNG")
    return {
        "height": image.height,
        "width": image.width,
        "colorspace": 3,
        "encoded_image_string": file.getvalue(),
    }
