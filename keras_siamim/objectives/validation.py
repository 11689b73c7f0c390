"""Checks of training data, with errors that say what is allowed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_siamim import batch as keys
from keras_siamim.layers.patch_embedding import checked_grid
from keras_siamim.types import Batch

# Batches of a `tf.data.Dataset` that may be read to find its last one. Reading a longer epoch would delay the first
# step, and random access (`tf.data.experimental.at`) ends the process on some pipelines.
READ_AT_MOST = 100


def require_keys(batch: Batch, required: Sequence[str]) -> None:
    """Raise unless a batch is a dictionary with the required keys.

    Raises:
        ValueError: With the missing keys.
    """
    if not hasattr(batch, "keys"):
        raise ValueError(
            f"`batch` must be a dictionary with the keys {', '.join(required)}. Received: {type(batch).__name__}."
        )
    missing = [key for key in required if key not in batch]
    if missing:
        raise ValueError(
            f"`batch` must have the keys {', '.join(required)}, see keras_siamim.batch. It lacks "
            f"{', '.join(missing)}. Received: {', '.join(sorted(batch.keys()))}."
        )


def require_float(batch: Batch, key: str) -> None:
    """Raise for images of an integer dtype.

    Raises:
        ValueError: With key and dtype.
    """
    dtype = keras.backend.standardize_dtype(batch[key].dtype)
    if "float" not in dtype:
        raise ValueError(
            f"`{key}` must hold normalized images of a float dtype (subtract the mean and divide by the standard "
            f"deviation first). Received: {dtype}."
        )


def require_count(batch: Batch, key: str, patches: int, left_out: int = 0) -> None:
    """Raise unless the number of patch indices per image is in [1, patches - left_out].

    Raises:
        ValueError: With the number and the range.
    """
    count = batch[key].shape[-1]
    if count is not None and not 1 <= count <= patches - left_out:
        raise ValueError(
            f"`{key}` must have [1, {patches - left_out}] of the {patches} patches per image. Received: {count}."
        )


def require_several_images(size: int, received: str = "batch size 1") -> None:
    """Raise for a training batch of one image, which has no statistics for BatchNorm.

    Raises:
        ValueError: If `size` is 1.
    """
    if size == 1:
        raise ValueError(
            f"`batch_size` must be 2 or more images for BatchNorm in training. Received: {received}. Choose another "
            'batch size, drop the incomplete last batch (`drop_remainder=True`), or choose the norm "layer" where the '
            "model has it."
        )


def last_batch_size(
    x: Any, batch_size: int | None = None, validation_split: float = 0.0, steps_per_epoch: int | None = None
) -> int | None:
    """Return the number of images in the last batch of an epoch, or None where it is unknown before training.

    It is known for dictionaries of arrays, map-style data, PyTorch's data loaders, and `tf.data` of known cardinality.
    Of a `tf.data.Dataset` without a static batch size, the last of at most `READ_AT_MOST` batches is read.

    Args:
        x: Training data of `fit`.
        batch_size: int. `batch_size` of `fit`, for arrays. Defaults to Keras's 32.
        validation_split: float. Share of the arrays that is held out. Defaults to 0.
        steps_per_epoch: int. Batches per epoch. Defaults to all.
    """
    if hasattr(x, "keys"):
        images = int(len(next(iter(x.values()))) * (1 - validation_split))
        return images % (batch_size or 32) or (batch_size or 32)
    if getattr(x, "batch_size", None) and hasattr(x, "sampler"):  # torch.utils.data.DataLoader
        if x.drop_last:
            return x.batch_size
        return len(x.sampler) % x.batch_size or x.batch_size if hasattr(x.sampler, "__len__") else None
    if (batches := _number_of_batches(x)) is not None:
        return _images_of(x[batches - 1]) if batches and (steps_per_epoch or batches) >= batches else None
    if hasattr(x, "element_spec") and hasattr(x, "cardinality"):
        spec = keras.tree.flatten(x.element_spec)[0]
        if not hasattr(spec, "shape"):  # a distributed data set, which `check_replicas` checks
            return None
        if spec.shape[0] is not None:
            return spec.shape[0]
        batches = int(x.cardinality())  # negative: infinite or unknown
        if 0 < batches <= READ_AT_MOST and (steps_per_epoch or batches) >= batches:
            return _images_of(next(iter(x.skip(batches - 1))))
    return None


def _number_of_batches(x):
    # Of map-style data; None for other kinds and for infinite ones.
    if isinstance(x, keras.utils.PyDataset):
        return x.num_batches
    return len(x) if hasattr(x, "__getitem__") and hasattr(x, "__len__") else None


def _images_of(batch):
    batch = batch[0] if isinstance(batch, (tuple, list)) else batch
    return len(batch[keys.VIEW_1]) if hasattr(batch, "keys") and keys.VIEW_1 in batch else None


def peek(x: Any) -> tuple[Batch | None, Any]:
    """Return the first batch of training data as NumPy arrays, and data that still begin with it.

    Training reads `tf.data` and map-style data from their start again. One-shot iterators are chained behind a copy of
    their first batch. The first batch is None for other kinds of data.

    Raises:
        ValueError: If the batch has sample weights.
    """
    if hasattr(x, "keys"):
        return {key: _numpy(value) for key, value in x.items()}, x
    if isinstance(x, keras.utils.PyDataset) or _number_of_batches(x) is not None:
        first = None if _number_of_batches(x) == 0 else x[0]
    elif hasattr(x, "element_spec") and hasattr(x, "take"):
        first = next(iter(x.take(1)), None)
    elif hasattr(x, "__next__"):
        first = next(x, None)
        x = x if first is None else _from(first, x)
    else:
        first = None
    if isinstance(first, (tuple, list)):
        if len(first) > 2 and first[2] is not None:
            raise ValueError(
                "`batch` must be a dictionary, or a tuple of one and labels: objectives do not weight images. "
                "Received: a tuple with `sample_weight`."
            )
        first = first[0]
    if isinstance(first, Mapping):
        first = {key: _numpy(value) for key, value in first.items()}
    return first, x


def check_replicas(x: Any, batch_size: int | None, parts: int) -> None:
    """Raise for training data whose batches can't be split into equal parts.

    Dictionaries of arrays and `tf.data` are checked. Other kinds of data end in an error of the framework.

    Args:
        x: Training data of `fit`.
        batch_size: int. `batch_size` of `fit`, for arrays.
        parts: int. Number of parts.

    Raises:
        ValueError: If `parts` does not divide every batch, the last one included.
    """
    rule = f"`batch_size` must be the same for all batches and divisible by the {parts} replicas."
    if hasattr(x, "element_spec") and hasattr(x, "take"):
        size = keras.tree.flatten(x.element_spec)[0].shape[0]
        if size is None or size % parts:
            raise ValueError(f"{rule} Batch with `drop_remainder=True`. Received: batch size {size or 'unknown'}.")
    elif hasattr(x, "values"):
        images = len(next(iter(x.values())))
        size = min(batch_size or 32, images)
        if size % parts or images % size:
            raise ValueError(f"{rule} Received: batch size {size} of {images} images.")


def _from(first, rest):
    # A generator of tuples, the one kind of iterator that Keras trains on.
    for batch in itertools.chain([first], rest):
        yield batch if isinstance(batch, tuple) else (batch,)


def _numpy(value):
    return value if isinstance(value, np.ndarray) else ops.convert_to_numpy(value)


def check_batch(
    batch: Batch,
    required: Sequence[str],
    encoder: keras.Model,
    target_image_size: tuple[int, int] | None = None,
) -> None:
    """Raise for a batch of NumPy arrays that no model should train on.

    Args:
        batch: Dictionary, see `keras_siamim.batch`.
        required: Keys that must exist.
        encoder: Encoder of the views.
        target_image_size: (height, width) to which the model resizes view 2. Defaults to None, no resizing.

    Raises:
        ValueError: For a missing key, images that are not finite floats, sizes that the patch does not divide, geometry
            that is not finite or has scale 0, or patch indices that are out of range, repeated or not ascending.
    """
    require_keys(batch, required)
    patches = {}
    for key in (keys.VIEW_1, keys.VIEW_2):
        if key in required:
            require_float(batch, key)
            _require_finite(batch, key)
            grid = encoder.grid_of(batch[key].shape)
            patches[key] = grid[0] * grid[1]
    if target_image_size is not None:
        rows, columns = checked_grid(*target_image_size, encoder.patch_size)
        patches[keys.VIEW_2] = rows * columns
    if keys.RELATIVE_AFFINE in required:
        affine = batch[keys.RELATIVE_AFFINE]
        if affine.shape[1:] != (keys.RELATIVE_AFFINE_SIZE,):
            raise ValueError(
                f"`{keys.RELATIVE_AFFINE}` must have the shape (batch, {keys.RELATIVE_AFFINE_SIZE}). "
                f"Received: {affine.shape}."
            )
        _require_finite(batch, keys.RELATIVE_AFFINE)
        if np.any(affine[:, 2:] == 0):
            raise ValueError(
                f"`{keys.RELATIVE_AFFINE}` must have scales (its last two columns) other than 0. Received: 0."
            )
    for key, view in ((keys.VISIBLE_IDS, keys.VIEW_1), (keys.TARGET_IDS, keys.VIEW_2)):
        if key in batch and view in patches:
            _require_patch_indices(batch, key, patches[view])


def _require_patch_indices(batch, key, patches):
    require_count(batch, key, patches)
    ids = batch[key]
    if ids.min() < 0 or ids.max() >= patches or np.any(np.diff(ids, axis=-1) <= 0):
        raise ValueError(
            f"`{key}` must hold ascending patch indices in [0, {patches - 1}]. Received: minimum {ids.min()}, "
            f"maximum {ids.max()}."
        )


def _require_finite(batch, key):
    bad = ~np.isfinite(batch[key]).reshape(len(batch[key]), -1).all(axis=1)
    if bad.any():
        raise ValueError(
            f"`{key}` must be finite. Received NaN or infinity in {bad.sum()} of {len(bad)} images of the first batch, "
            f"first at index {int(np.argmax(bad))}."
        )
