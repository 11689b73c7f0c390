"""Checks of a batch, with errors that say what is allowed."""

import itertools

import keras
import numpy as np
from keras import ops

from keras_siamim import batch as keys
from keras_siamim.layers.patch_embedding import checked_grid

# Batches of a `tf.data.Dataset` that may be read before training to see the last one. A longer epoch would keep the
# user waiting for a first step, and random access (`tf.data.experimental.at`) ends the process on some pipelines.
READ_AT_MOST = 100


def require_keys(batch, required):
    """Refuse anything but a dictionary that has the keys `required`.

    Raises:
        ValueError: Naming the missing keys.
    """
    if not hasattr(batch, "keys"):
        raise ValueError(
            f"A batch must be a dictionary with the keys {', '.join(required)}. Received: {type(batch).__name__}."
        )
    missing = [key for key in required if key not in batch]
    if missing:
        raise ValueError(
            f"The batch lacks {', '.join(missing)}; it must have the keys {', '.join(required)} "
            f"(see keras_siamim.batch). Received the keys: {', '.join(sorted(batch.keys()))}."
        )


def require_float(batch, key):
    """Refuse images of a whole-number dtype.

    Raises:
        ValueError: Naming key and dtype.
    """
    dtype = keras.backend.standardize_dtype(batch[key].dtype)
    if "float" not in dtype:
        raise ValueError(
            f"`{key}` must hold normalized images of a float dtype (subtract the mean and divide by the standard "
            f"deviation first). Received dtype: {dtype}."
        )


def require_count(batch, key, patches, left_out=0):
    """Refuse patch numbers of nothing, or of more than all but `left_out` patches.

    Raises:
        ValueError: Naming the count and the allowed range.
    """
    count = batch[key].shape[-1]
    if count is not None and not 1 <= count <= patches - left_out:
        raise ValueError(
            f"`{key}` must keep 1...{patches - left_out} of the {patches} patches of an image. Received: {count}."
        )


def require_several_images(size, received="batch size 1"):
    """Refuse a training batch of one image, of which BatchNorm can take no statistics.

    Raises:
        ValueError: If `size` is 1.
    """
    if size == 1:
        raise ValueError(
            f"BatchNorm needs a batch of 2 or more images while training. Received: {received}. Choose another batch "
            'size, drop the incomplete last batch (`drop_remainder=True`), or take the norm "layer" where the model '
            "offers it."
        )


def last_batch_size(x, batch_size=None, validation_split=0.0, steps_per_epoch=None):
    """Return the number of images in the last batch of an epoch, or None where it can't be known beforehand.

    Dictionaries of arrays, map-style data sets, PyTorch's data loaders and `tf.data` of known cardinality can tell. Of
    a `tf.data.Dataset` without a static batch size the last batch is read, if there are at most `READ_AT_MOST`.

    Args:
        x: Training data of `fit`.
        batch_size: Its `batch_size`, for arrays. Defaults to Keras's 32.
        validation_split: Share of arrays that is not trained on.
        steps_per_epoch: Batches of an epoch, or None for all.
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
        if not hasattr(spec, "shape"):  # of a distributed data set, which `check_replicas` looks at
            return None
        if spec.shape[0] is not None:
            return spec.shape[0]
        batches = int(x.cardinality())  # negative: infinite or unknown
        if 0 < batches <= READ_AT_MOST and (steps_per_epoch or batches) >= batches:
            return _images_of(next(iter(x.skip(batches - 1))))
    return None


def _number_of_batches(x):
    # Of map-style data; None for all other kinds and for endless ones.
    if isinstance(x, keras.utils.PyDataset):
        return x.num_batches
    return len(x) if hasattr(x, "__getitem__") and hasattr(x, "__len__") else None


def _images_of(batch):
    batch = batch[0] if isinstance(batch, (tuple, list)) else batch
    return len(batch[keys.VIEW_1]) if hasattr(batch, "keys") and keys.VIEW_1 in batch else None


def peek(x):
    """The first batch of training data, as NumPy arrays, and data that still begin with it.

    Dictionaries of arrays give themselves. `tf.data` and map-style data are read once more from their start by
    training; one-shot iterators continue behind a copy of their first batch. Of kinds of data that can't be looked at
    the first batch is None.

    Raises:
        ValueError: If the batch carries sample weights.
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
                "Batches must be a dictionary, alone or with labels: objectives weight no images. Received: a tuple "
                "with `sample_weight`."
            )
        first = first[0]
    if hasattr(first, "keys"):
        first = {key: _numpy(value) for key, value in first.items()}
    return first, x


def check_replicas(x, batch_size, parts):
    """Refuse training data whose batches can't be cut into equal parts.

    Dictionaries of arrays and `tf.data` can be looked at; of other kinds of data the rule is the same, and the
    framework's own error follows where it is broken.

    Args:
        x: What `fit` was given.
        batch_size: Its `batch_size`, for arrays.
        parts: How many parts there are.

    Raises:
        ValueError: If `parts` does not divide every batch, the last one included.
    """
    rule = f"Over several replicas all batches must be of one size, divisible by {parts} here."
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
    """A generator of tuples, the one kind of iterator that Keras trains on."""
    for batch in itertools.chain([first], rest):
        yield batch if isinstance(batch, tuple) else (batch,)


def _numpy(value):
    return value if isinstance(value, np.ndarray) else ops.convert_to_numpy(value)


def check_batch(batch, required, encoder, target_image_size=None):
    """Check keys, dtypes and values of one batch of NumPy arrays.

    Args:
        batch: Dictionary, see `keras_siamim.batch`.
        required: Keys that must be there.
        encoder: The encoder that will see the views.
        target_image_size: (height, width) to which the model itself resizes view 2, or None.

    Raises:
        ValueError: For a missing key, images that are not finite floats, sizes that the patch does not divide, geometry
            that is not finite or has no scale, or visible patches that are out of range, repeated or not ascending.
    """
    require_keys(batch, required)
    patches = {}
    for key in (keys.VIEW_1, keys.VIEW_2):
        if key in required:
            require_float(batch, key)
            _require_finite(batch, key)
            grid = encoder.patch_embedding.grid(batch[key].shape)
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
            raise ValueError(f"The scales in `{keys.RELATIVE_AFFINE}` (its last two columns) must not be 0.")
    for key, view in ((keys.VISIBLE_IDS, keys.VIEW_1), (keys.TARGET_IDS, keys.VIEW_2)):
        if key in batch and view in patches:
            _require_patch_numbers(batch, key, patches[view])


def _require_patch_numbers(batch, key, patches):
    require_count(batch, key, patches)
    ids = batch[key]
    if ids.min() < 0 or ids.max() >= patches or np.any(np.diff(ids, axis=-1) <= 0):
        raise ValueError(
            f"`{key}` must hold ascending patch numbers within 0...{patches - 1}. Received: minimum {ids.min()}, "
            f"maximum {ids.max()}."
        )


def _require_finite(batch, key):
    bad = ~np.isfinite(batch[key]).reshape(len(batch[key]), -1).all(axis=1)
    if bad.any():
        raise ValueError(
            f"`{key}` must be finite. Received NaN or infinity in {bad.sum()} of {len(bad)} images of the first batch, "
            f"first at index {int(np.argmax(bad))}."
        )
