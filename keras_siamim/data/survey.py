"""Survey of a source: one look at every image for sizes, colors, unreadable images and duplicates."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_siamim.data.error_handling import IMAGE, INDEX, attempt, decoded, failure, plain
from keras_siamim.data.sources import Source
from keras_siamim.types import Tensor

# Images per batch: their decoded pixels are in memory together.
BATCH = 32


@dataclasses.dataclass(frozen=True)
class Survey:
    """Properties of the images of a source. Arrays have one entry per readable image.

    Attributes:
        source: Source of the images.
        indices: (images,) int64. Indices in the source.
        sides: (images, 2) int32. Heights and widths in pixels.
        gray: (images,) bool. True for images without color.
        digests: (images,) uint64. Digest of the decoded pixels.
        unreadable: Dictionary from the locations of the unreadable images to the reasons.
    """

    source: Source
    indices: np.ndarray
    sides: np.ndarray
    gray: np.ndarray
    digests: np.ndarray
    unreadable: dict[str, str]

    @property
    def readable(self) -> int:
        """Number of readable images."""
        return len(self.indices)

    @property
    def different(self) -> int:
        """Number of readable images without duplicates: each content counts once."""
        return len(self._contents())

    def duplicates(self) -> list[list[str]]:
        """Return the locations of the images of equal content, one list per content that appears more than once."""
        return [
            [self.source.locate(int(index)) for index in self.indices[rows]]
            for rows in self._contents().values()
            if len(rows) > 1
        ]

    def _contents(self):
        # Equal pixels in another shape are another image.
        found = collections.defaultdict(list)
        for row, key in enumerate(zip(self.digests.tolist(), *self.sides.T.tolist(), strict=True)):
            found[key].append(row)
        return found


def survey(source: Source, progress: Callable[[int], object] = lambda images: None) -> Survey:
    """Read and decode every image of a source once.

    The survey keeps 25 bytes per image, and the pixels of one batch at a time.

    Args:
        source: Source of images, from `open_source`.
        progress: Function of the number of images looked at so far. Defaults to none.

    Returns:
        A `Survey`.

    Raises:
        Exception: As `error_handling.failure`: for errors of the machine, not of an image.

    Example:
    >>> from keras_siamim.data.sources import array_source
    >>> found = survey(array_source(np.zeros((3, 8, 6), "uint8")))
    >>> found.sides[0].tolist(), int(found.gray.sum()), found.different
    ([8, 6], 3, 1)
    """
    batches = source.order(0, 0, shuffle=False).batch(BATCH)
    batches = batches.map(plain(lambda entries: _measured(entries, source)), tf.data.AUTOTUNE).prefetch(1)
    parts, unreadable, seen = [], {}, 0
    for indices, slots, rows in batches.as_numpy_iterator():
        for index in np.delete(indices, slots):
            # Read again, for the reason; an image that can be read now is counted as readable next time.
            reason = failure(source, int(index))
            unreadable[source.locate(int(index))] = reason or "could not be read at first"
        parts.append((indices[slots], rows["sides"], rows["gray"], rows["digest"]))
        seen += len(indices)
        progress(seen)
    indices, sides, gray, digests = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Survey(source, indices, sides, gray, digests.view("uint64")[:, 0], unreadable)


def _measured(entries, source):
    def measure(entry: dict[str, Tensor]) -> dict[str, Tensor]:
        image = decoded(source.load(entry))[IMAGE]
        channels = tf.unstack(image, axis=-1)
        return {
            "sides": tf.shape(image)[:2],
            "gray": tf.reduce_all((channels[0] == channels[1]) & (channels[0] == channels[2])),
            "digest": tf.fingerprint(tf.reshape(image, (1, -1)))[0],
        }

    slots, rows = attempt(entries, measure)
    return entries[INDEX], slots, rows
