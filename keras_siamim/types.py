"""Type aliases of the public annotations."""

import os
from typing import Any, TypeAlias

from numpy.typing import ArrayLike

# A tensor of the active backend, or a `tf.Tensor` in `keras_siamim.data`; no common base class exists.
Tensor: TypeAlias = Any
# A batch of `keras_siamim.batch`: keys to arrays or tensors.
Batch: TypeAlias = dict[str, Tensor]
# One side of a square image, or (height, width), in pixels.
Size: TypeAlias = int | tuple[int, int]
PathLike: TypeAlias = str | os.PathLike[str]

__all__ = ["ArrayLike", "Batch", "PathLike", "Size", "Tensor"]
