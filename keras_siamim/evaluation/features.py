"""The feature extractor that all protocols share: every image passes the frozen encoder once, ever.

Features are cached on disk by content: a batch's file is named by a hash of the encoder (class, configuration, weights,
backend) and of the batch's transformed pixels. So the cache can be neither stale nor mixed up, and an interrupted
extraction goes on where it stopped.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from keras_siamim.backbones import ViTEncoder
from keras_siamim.files import write_atomically

POOLINGS = ("token", "mean")
# What a frozen encoder is looked at by: the poolings, and the class token as the last block gave it.
FEATURES = (*POOLINGS, "unnormed_token")


class Features(NamedTuple):
    """Frozen features of a split, each (images, width) float32, and `labels`, (images,) int64.

    `token` is the class token, `mean` the mean of the patch tokens, and `unnormed_token` the class token before the
    encoder's final norm: the same as `token` where it has none.
    """

    token: np.ndarray
    mean: np.ndarray
    unnormed_token: np.ndarray
    labels: np.ndarray

    def pooled(self, pooling: str) -> np.ndarray:
        """Return the features of that name, (images, width) float32.

        Raises:
            ValueError: if `pooling` is none of `FEATURES`.
        """
        return getattr(self, check_pooling(pooling, FEATURES))


def check_pooling(pooling: str, allowed=POOLINGS) -> str:
    """Return `pooling` after checking that it is one of those allowed."""
    if pooling not in allowed:
        raise ValueError(f"`pooling` must be one of {allowed}; received {pooling!r}.")
    return pooling


class _PooledEncoder(keras.Model):
    """Pools on the device, so that only three vectors an image travel back."""

    def __init__(self, encoder):
        super().__init__(name="pooled_encoder")
        self.encoder = encoder

    def call(self, images):
        if getattr(self.encoder, "data_format", None) == "channels_first":  # data sets have their channels last
            images = keras.ops.transpose(images, (0, 3, 1, 2))
        if isinstance(self.encoder, ViTEncoder):
            unnormed = self.encoder.block_outputs(images, training=False)[-1]
            tokens = self.encoder.apply_norm(unnormed)
        else:
            unnormed = tokens = self.encoder(images, training=False)
        return tokens[:, 0], keras.ops.mean(keras.ops.cast(tokens[:, 1:], "float32"), axis=1), unnormed[:, 0]


def fingerprint(encoder) -> str:
    """Return a hash of what a Keras encoder computes: its class, configuration, weights, dtype policy and backend.

    Args:
        encoder: a built `keras.Model`, or an object with an attribute `fingerprint` (str), which is then returned.

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(getattr(encoder, "fingerprint", None), str):
        return encoder.fingerprint
    if not isinstance(encoder, keras.Model):
        raise ValueError(
            "To cache features, `encoder` must be a keras.Model or have an attribute `fingerprint` (str) that changes "
            f"with its weights; received {type(encoder).__name__}."
        )
    digest = hashlib.sha256()
    config = {key: value for key, value in encoder.get_config().items() if key != "name"}
    parts = [type(encoder).__module__, type(encoder).__name__, config, keras.backend.backend()]
    digest.update(json.dumps([*parts, encoder.dtype_policy.name], sort_keys=True, default=repr).encode())
    for weight in encoder.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        digest.update(f"{value.shape}{value.dtype}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def extract_features(
    encoder: keras.Model | Callable,
    batches: Iterable,
    cache_dir: str | os.PathLike | None = None,
    verbose: int = 0,
) -> Features:
    """Run a frozen encoder over a split and return class tokens, means of patch tokens, and labels.

    The first batch sets the batch size. Smaller ones, such as the tail, are padded to it and the padding's features
    dropped: nothing is compiled again and no image is lost. Batches must come in a fixed order and without randomness.

    Args:
        encoder: maps normalized images (batch, height, width, 3) float32 to tokens (batch, 1 + patches, width), class
            token first. A Keras model, or any callable on NumPy arrays such as a loaded SavedModel. Only of a
            `ViTEncoder` is the token before the final norm known; of others it is taken to be the class token.
        batches: yields (images, labels) with images (batch, height, width, 3) float32 and labels (batch,) integers.
        cache_dir: folder for the features; `None` keeps nothing.
        verbose: 1 shows a progress bar.

    Returns:
        `Features` in the order of the batches.

    Raises:
        ValueError: if there is no batch, a batch is malformed, grows beyond the first, or the encoder's output is not
            (batch, 1 + patches, width).
    """
    folder = None
    if cache_dir is not None:
        folder = Path(cache_dir) / fingerprint(encoder)[:32]
        folder.mkdir(parents=True, exist_ok=True)
    run = _runner(encoder)
    progress = keras.utils.Progbar(length(batches), verbose=verbose, unit_name="batch")
    features, labels, batch_size = [], [], None
    for images, batch_labels in batches:
        images, batch_labels = np.asarray(images), np.asarray(batch_labels)
        check_images(images)
        batch_size = check_batch(images, batch_labels, batch_size)
        features.append(_cached(folder, images, lambda x, size=batch_size: run_padded(run, x, size)))
        labels.append(batch_labels.astype(np.int64))
        progress.add(1)
    if not labels:
        raise ValueError("`batches` must yield at least one batch; received none. Is the split empty?")
    return Features(*(np.concatenate(parts) for parts in zip(*features, strict=True)), np.concatenate(labels))


def length(batches) -> int | None:
    """Return how many batches there will be, or `None` where that is not known."""
    try:
        return len(batches)
    except TypeError:
        return None


def _runner(encoder):
    """Return a function from images to (token, mean, unnormed_token), all NumPy."""
    if isinstance(encoder, keras.Model):
        pooled = _PooledEncoder(encoder)
        return lambda images: pooled.predict_on_batch(images)

    def run(images):
        tokens = np.asarray(encoder(images), dtype="float32")
        if tokens.ndim != 3:
            raise ValueError(f"`encoder` must return (batch, 1 + patches, width); received shape {tokens.shape}.")
        return tokens[:, 0], tokens[:, 1:].mean(axis=1), tokens[:, 0]

    return run


def run_padded(run, images, batch_size):
    """Run a batch filled up with zeros to `batch_size` rows; return a tuple of float32 without the filling."""
    missing = np.zeros((batch_size - len(images), *images.shape[1:]), images.dtype)
    outputs = run(np.concatenate([images, missing]) if len(missing) else images)
    return tuple(np.asarray(output, dtype="float32")[: len(images)] for output in outputs)


def check_images(images):
    """Refuse what is not a batch of normalized float32 images (batch, height, width, 3).

    Raises:
        ValueError: if it is not.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.float32:
        raise ValueError(
            f"Images must be (batch, height, width, 3) float32, normalized; received {images.shape} {images.dtype}."
        )


def check_batch(inputs, labels, batch_size: int | None) -> int:
    """Check a batch of a split and return the batch size that holds from now on, that of the first.

    Raises:
        ValueError: if the batch is empty, larger than the first, or has not one label per row.
    """
    if not len(inputs):
        raise ValueError(f"Every batch must hold at least one image; received the shape {inputs.shape}.")
    if labels.shape != inputs.shape[:1]:
        raise ValueError(f"Labels must have the shape {inputs.shape[:1]} of one per image; received {labels.shape}.")
    if batch_size is not None and len(inputs) > batch_size:
        raise ValueError(f"No batch may be larger than the first, {batch_size} images; received {len(inputs)}.")
    return batch_size or len(inputs)


def _cached(folder, images, compute):
    """Return the three features from the folder, or compute them and put them there in one move."""
    if folder is None:
        return compute(images)
    name = hashlib.sha256(str(images.shape).encode() + np.ascontiguousarray(images).tobytes()).hexdigest()[:32]
    path = folder / f"{name}.npz"
    try:
        with open(path, "rb") as file, np.load(file) as stored:
            return tuple(stored[name] for name in FEATURES)
    except (FileNotFoundError, zipfile.BadZipFile, EOFError, KeyError):
        features = compute(images)
    with write_atomically(path) as file:
        np.savez(file, **dict(zip(FEATURES, features, strict=True)))
    return features
