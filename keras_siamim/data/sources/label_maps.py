"""Images with label maps, for semantic segmentation: their classes, and how stored labels become classes."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from keras_siamim.data.images import decoding
from keras_siamim.data.python_calls import numpy_function
from keras_siamim.data.sources.derived import Source
from keras_siamim.types import Tensor

LABEL_MAP = "label_map"
# Label of pixels without a class, in every label map that a source yields.
IGNORED = 255
_PNG_START = b"\x89PNG\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class Labeling:
    """Classes, and the labels with which files store them.

    Args:
        class_names: Tuple of 2 to 255 strings. Names of the classes.
        first: int. Stored label of class 0; the others follow. Defaults to 0.
        ignored: Tuple of ints. Stored labels of pixels without a class. Defaults to (255,).

    Raises:
        ValueError: If the number of classes is out of its range, or an ignored label is that of a class.

    Example:
        >>> Labeling(("sky", "road"), first=1, ignored=(0,)).classes_of(np.array([[0, 1, 2]], "uint8"))
        array([[255,   0,   1]], dtype=uint8)
    """

    class_names: tuple[str, ...]
    first: int = 0
    ignored: tuple[int, ...] = (IGNORED,)

    def __post_init__(self) -> None:
        if not 2 <= len(self.class_names) <= IGNORED:
            raise ValueError(f"`class_names` must be 2 to {IGNORED} names. Received: {len(self.class_names)}.")
        if self.first < 0:
            raise ValueError(f"`first` must be 0 or more. Received: {self.first}.")
        if inside := [label for label in self.ignored if 0 <= label - self.first < len(self.class_names)]:
            raise ValueError(
                f"`ignored` must be labels outside [{self.first}, {self.first + len(self.class_names)}), those of the "
                f"classes. Received: {inside}."
            )

    def classes_of(self, labels: np.ndarray) -> np.ndarray:
        """Return the classes of stored labels.

        Args:
            labels: (height, width) uint8 or uint16.

        Returns:
            (height, width) uint8, 255 for pixels without a class.

        Raises:
            ValueError: If a label is neither that of a class nor ignored.
        """
        table = np.full(np.iinfo(labels.dtype).max + 1, -1, "int64")
        table[self.first : self.first + len(self.class_names)] = np.arange(len(self.class_names))
        table[[label for label in self.ignored if label < len(table)]] = IGNORED
        classes = table[labels]
        if classes.min() < 0:
            row, column = np.argwhere(classes < 0)[0]
            raise ValueError(
                f"it has the label {labels[row, column]} at row {row}, column {column}; the "
                f"{len(self.class_names)} classes are {self.first} to {self.first + len(self.class_names) - 1}, and "
                f"{', '.join(map(str, self.ignored)) or 'no label'} is ignored"
            )
        return classes.astype("uint8")


@dataclasses.dataclass(frozen=True)
class LabelMapSource:
    """Images with label maps.

    Attributes:
        images: Source of the images. Its examples also have `"label_map"`, (height, width) uint8 classes, 255 for
            pixels without a class.
        labeling: `Labeling` of the stored label maps.
        notes: Tuple of strings. Remarks for the user. Defaults to `()`.
    """

    images: Source
    labeling: Labeling
    notes: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.labeling.class_names

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.labeling.class_names)

    @property
    def name(self) -> str:
        """Name in messages."""
        return self.images.name

    @property
    def size(self) -> int:
        """Number of images."""
        return self.images.size


def decode_labels(encoded: bytes) -> np.ndarray:
    """Decode a label map as it is stored: the gray values or the palette indices of a PNG.

    Args:
        encoded: bytes. The file.

    Returns:
        (height, width) uint8 or uint16.

    Raises:
        ValueError: If the file is not a grayscale or palette PNG.
    """
    from PIL import Image  # an optional dependency

    if not encoded.startswith(_PNG_START):
        raise ValueError("it is not a PNG")
    depth = encoded[24]
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            mode, labels = image.mode, np.array(image)
    except (OSError, SyntaxError) as error:  # Pillow raises both for damaged PNGs
        raise ValueError(f"it can't be read: {error}") from None
    if mode == "1":
        return labels.astype("uint8")
    if mode == "L":
        # Pillow scales gray values of fewer than 8 bits to [0, 255].
        return labels // (255 // (2 ** min(depth, 8) - 1))
    if mode == "P":
        return labels
    if mode in ("I;16", "I"):
        return labels.astype("uint16")
    raise ValueError(f"it must be a grayscale or palette PNG, not one of colors (mode {mode})")


def read_label_map(labeling: Labeling, image: Tensor, label_map: Tensor, path: Tensor | str = "") -> Tensor:
    """Decode the label map of an image and compare their sizes.

    Args:
        labeling: `Labeling`.
        image: Scalar string tensor. The image's file.
        label_map: Scalar string tensor. The label map's file.
        path: Scalar string tensor. Path of the label map, for messages. Defaults to `""`.

    Returns:
        (height, width) uint8 tensor, 255 for pixels without a class.

    Raises:
        Exception: At run time, if the label map can't be read, has a label without a class, or another size than the
            upright image.
    """

    def read(*inputs: bytes | np.ndarray) -> np.ndarray:
        image, label_map, path = (np.asarray(value).item() for value in inputs)  # arrays outside of graphs
        try:
            classes = labeling.classes_of(decode_labels(label_map))
            size = decoding.shape_of(image)
            if size is not None and tuple(size) != classes.shape:
                raise ValueError(f"it has {_sides(classes.shape)} pixels, and its image has {_sides(size)}")
        except ValueError as error:
            raise ValueError(f"label map{f' {os.fsdecode(path)}' if path else ''}: {error}") from None
        return classes

    return tf.ensure_shape(numpy_function(read, [image, label_map, path], tf.uint8), (None, None))


def _sides(size):
    return f"{size[0]} x {size[1]}"


def largest_label(label_maps: Iterable[bytes], ignored: Sequence[int]) -> int:
    """Return the largest stored label that is not ignored, -1 without any.

    Args:
        label_maps: Iterable of bytes. Files of label maps.
        ignored: Sequence of ints. Labels of pixels without a class.
    """
    largest = -1
    for encoded in label_maps:
        labels = np.unique(decode_labels(encoded))
        largest = max([largest, *labels[~np.isin(labels, ignored)].tolist()])
    return largest
