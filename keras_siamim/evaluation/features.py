"""Feature extraction with a frozen encoder, shared by all protocols and cached on disk.

The cache is addressed by content. The file of a batch is named by a hash of the encoder (class, configuration, weights,
backend) and of the preprocessed pixels. A changed encoder or image is therefore computed again, and an interrupted
extraction resumes after its last finished batch.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from keras_siamim.backbones import ViTEncoder
from keras_siamim.files import delete_abandoned, write_atomically
from keras_siamim.ops.pooling import POOLINGS, check_pooling, num_prefix_tokens, pool_tokens
from keras_siamim.types import ArrayLike, PathLike, Tensor

# Names of the extracted features: the poolings, and the class token before the final norm.
FEATURES = (*POOLINGS, "unnormed_token")


class Features(NamedTuple):
    """Frozen features and labels of a split.

    Attributes:
        token: (images, width) float32. Class token; (images, 0) for an encoder without one.
        mean: (images, width) float32. Mean of the patch tokens.
        unnormed_token: (images, width) float32. Class token before the encoder's final norm; equal to `token` if the
            encoder has no such norm.
        labels: (images,) int64.

    Example:
        >>> features = Features(np.zeros((2, 4)), np.ones((2, 4)), np.zeros((2, 4)), np.arange(2))
        >>> features.pooled("mean") is features.mean
        True
    """

    token: np.ndarray
    mean: np.ndarray
    unnormed_token: np.ndarray
    labels: np.ndarray

    def pooled(self, pooling: str) -> np.ndarray:
        """Return the features of one name.

        Args:
            pooling: String, one of `FEATURES`.

        Returns:
            (images, width) float32.

        Raises:
            ValueError: If `pooling` is not in `FEATURES`, or is a class token that the encoder does not have.
        """
        found = getattr(self, check_pooling(pooling, FEATURES))
        if not found.shape[1]:
            raise ValueError(f"`pooling` must be 'mean' for an encoder without a class token. Received: {pooling!r}.")
        return found


def in_data_format_of(encoder: keras.Model, images: Tensor) -> Tensor:
    """Return images with their channels where an encoder expects them; data sets have them last.

    Args:
        encoder: `keras.Model`, with or without the attribute `data_format`.
        images: (batch, height, width, 3) tensor.

    Example:
        >>> encoder = ViTEncoder(image_size=8, patch_size=4, width=8, num_heads=2, data_format="channels_first")
        >>> in_data_format_of(encoder, keras.ops.zeros((1, 8, 8, 3))).shape[1]
        3
    """
    first = getattr(encoder, "data_format", None) == "channels_first"
    return keras.ops.transpose(images, (0, 3, 1, 2)) if first else images


class _PooledEncoder(keras.Model):
    """Encoder and pooling in one graph, so that the device returns three vectors per image and not all tokens."""

    def __init__(self, encoder):
        super().__init__(name="pooled_encoder")
        self.encoder = encoder

    def call(self, images):
        images = in_data_format_of(self.encoder, images)
        if isinstance(self.encoder, ViTEncoder):
            unnormed = self.encoder.block_outputs(images, training=False)[-1]
            tokens = self.encoder.apply_norm(unnormed)
        else:
            unnormed = tokens = self.encoder(images, training=False)
        prefix = num_prefix_tokens(self.encoder)
        # In half precision, a mean over many patches would lose digits.
        mean = pool_tokens(keras.ops.cast(tokens, "float32"), "mean", prefix)
        return _class_token(tokens, prefix), mean, _class_token(unnormed, prefix)


def _class_token(tokens, prefix):
    """Return the class token (batch, width), or (batch, 0) without one."""
    return pool_tokens(tokens, "token") if prefix else tokens[:, 0, :0]


def fingerprint(encoder: keras.Model | Callable) -> str:
    """Return a hash of everything that determines an encoder's output.

    The hash covers the class, configuration (without `name`), weights, dtype policy and backend of a Keras model.

    Args:
        encoder: Built `keras.Model`, or an object whose string attribute `fingerprint` is then returned.

    Returns:
        Hexadecimal string.

    Raises:
        ValueError: If `encoder` is neither.

    Example:
        >>> len(fingerprint(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])))
        64
    """
    given = getattr(encoder, "fingerprint", None)
    if isinstance(given, str):
        return given
    if not isinstance(encoder, keras.Model):
        raise ValueError(
            "`encoder` must be a keras.Model or have a string attribute `fingerprint` that changes with its weights, "
            f"so that its features can be cached. Received: {type(encoder).__name__}."
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
    encoder: keras.Model | Callable[[np.ndarray], Tensor],
    batches: Iterable[tuple[ArrayLike, ArrayLike]],
    cache_dir: PathLike | None = None,
    verbose: int = 0,
) -> Features:
    """Run a frozen encoder over a split and return pooled features and labels.

    The first batch sets the batch size. Smaller batches, such as the last one, are padded to it, and the features of
    the padding are dropped. Batches must arrive in a fixed order and without random augmentation.

    Args:
        encoder: `keras.Model`, or a callable on NumPy arrays such as a `SavedModelEncoder`. It maps normalized images
            (batch, height, width, 3) float32 to tokens (batch, 1 + patches, width), class token first.
        batches: Iterable of (images, labels): images (batch, height, width, 3) float32, normalized, and labels (batch,)
            integers.
        cache_dir: Path of the cache folder, or `None` for no cache. Defaults to `None`.
        verbose: Integer. 1 shows a progress bar. Defaults to 0.

    Returns:
        `Features` in the order of the batches. `unnormed_token` differs from `token` for a `ViTEncoder` with a final
        norm only; other encoders do not expose the token before the norm.

    Raises:
        ValueError: If there is no batch, a batch is malformed or larger than the first, or the encoder's output is not
            (batch, 1 + patches, width).

    Example:
        >>> encoder = ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2)
        >>> images, labels = np.zeros((3, 8, 8, 3), "float32"), [0, 1, 1]
        >>> extract_features(encoder, [(images, labels)]).mean.shape
        (3, 8)
    """
    return next(extract_splits(encoder, [batches], cache_dir, verbose))


def extract_splits(
    encoder: keras.Model | Callable[[np.ndarray], Tensor],
    splits: Sequence[Iterable[tuple[ArrayLike, ArrayLike]]],
    cache_dir: PathLike | None = None,
    verbose: int = 0,
) -> Iterator[Features]:
    """Extract the features of several splits one after the other. The encoder is compiled once for all of them.

    Args:
        encoder: As in `extract_features`.
        splits: Sequence of iterables of batches, each as in `extract_features`.
        cache_dir: As in `extract_features`. Defaults to `None`.
        verbose: As in `extract_features`. Defaults to 0.

    Yields:
        What `extract_features` returns, for each split.

    Raises:
        ValueError: As in `extract_features`.

    Example:
        >>> encoder = ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2)
        >>> images, labels = np.zeros((3, 8, 8, 3), "float32"), [0, 1, 1]
        >>> [len(split.labels) for split in extract_splits(encoder, [[(images, labels)], [(images[:1], labels[:1])]])]
        [3, 1]
    """
    folder, run, size = cache_folder(cache_dir, encoder), _runner(encoder), 0
    for batches in splits:
        features, size = _extract_split(run, batches, folder, verbose, size)
        yield features


def _extract_split(run, batches, folder, verbose, least):
    """Return the features of a split and the size to which its batches were padded, `least` or more."""
    progress = keras.utils.Progbar(num_batches(batches), verbose=verbose, unit_name="batch")
    features, labels, batch_size = [], [], None
    for images, batch_labels in batches:
        images, batch_labels = np.asarray(images), np.asarray(batch_labels)
        check_images(images)
        batch_size = check_batch(images, batch_labels, batch_size)
        padded = max(batch_size, least)

        def compute(x, size=padded):
            return run_padded(run, x, size)

        features.append(cached_outputs(folder, images, compute, FEATURES))
        labels.append(batch_labels.astype(np.int64))
        progress.add(1)
    if not labels:
        raise ValueError("`batches` must yield at least one batch. Received: none.")
    token, mean, unnormed_token = (np.concatenate(parts) for parts in zip(*features, strict=True))
    return Features(token, mean, unnormed_token, np.concatenate(labels)), max(batch_size, least)


def num_batches(batches: Iterable) -> int | None:
    """Return the number of batches, or `None` if it is unknown.

    Args:
        batches: Iterable of batches.

    Example:
        >>> num_batches([1, 2]), num_batches(iter([1, 2]))
        (2, None)
    """
    try:
        return len(batches)  # type: ignore[arg-type]
    except TypeError:
        return None


def _runner(encoder):
    """Return a function from images to (token, mean, unnormed_token), all NumPy."""
    if isinstance(encoder, keras.Model):
        pooled = _PooledEncoder(encoder)
        return lambda images: pooled.predict_on_batch(images)

    def run(images):
        tokens = check_tokens_of(np.asarray(encoder(images), dtype="float32"))
        prefix = num_prefix_tokens(encoder)
        token = _class_token(tokens, prefix)
        return token, pool_tokens(tokens, "mean", prefix), token

    return run


def check_tokens_of(tokens: Tensor) -> Tensor:
    """Return the output of an encoder after checking its rank.

    Args:
        tokens: Array or tensor (batch, 1 + patches, width).

    Raises:
        ValueError: If the rank is not 3.

    Example:
        >>> check_tokens_of(np.zeros((1, 5, 8))).shape
        (1, 5, 8)
    """
    if len(tokens.shape) != 3:
        raise ValueError(f"`encoder` must return (batch, 1 + patches, width). Received: shape {tokens.shape}.")
    return tokens


def run_padded(
    run: Callable[[np.ndarray], tuple[ArrayLike, ...]], images: np.ndarray, batch_size: int
) -> tuple[np.ndarray, ...]:
    """Run a function on a batch that is padded with zeros, and drop the outputs of the padding.

    Args:
        run: Callable from an array (batch_size, ...) to a tuple of arrays (batch_size, ...).
        images: (batch, ...) array, at most `batch_size` rows.
        batch_size: Integer. Number of rows that `run` receives.

    Returns:
        Tuple of (batch, ...) float32 arrays.

    Example:
        >>> run_padded(lambda x: (x + len(x),), np.zeros(2), batch_size=5)
        (array([5., 5.], dtype=float32),)
    """
    # One shape for all batches, so that nothing is compiled again for the last one.
    missing = np.zeros((batch_size - len(images), *images.shape[1:]), images.dtype)
    outputs = run(np.concatenate([images, missing]) if len(missing) else images)
    return tuple(np.asarray(output, dtype="float32")[: len(images)] for output in outputs)


def check_images(images: np.ndarray) -> None:
    """Check that `images` has the shape and dtype of a batch of normalized images.

    Args:
        images: (batch, height, width, 3) float32.

    Raises:
        ValueError: If the shape or dtype differs.

    Example:
        >>> check_images(np.zeros((2, 8, 8, 3), "float32"))
    """
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.float32:
        raise ValueError(
            "`images` must be (batch, height, width, 3) float32, normalized. Received: shape "
            f"{images.shape}, dtype {images.dtype}."
        )


def check_batch(inputs: np.ndarray, labels: np.ndarray, batch_size: int | None) -> int:
    """Check one batch of a split and return the batch size of the split.

    Args:
        inputs: (batch, ...) array.
        labels: (batch,) integers.
        batch_size: Integer, the size of the first batch, or `None` if this is the first batch.

    Returns:
        Integer, the size of the first batch.

    Raises:
        ValueError: If the batch is empty, larger than the first, or does not have one label per row.

    Example:
        >>> check_batch(np.zeros((2, 4)), np.zeros(2), batch_size=3)
        3
    """
    if not len(inputs):
        raise ValueError(f"`batches` must hold at least one image per batch. Received: shape {inputs.shape}.")
    if labels.shape != inputs.shape[:1]:
        raise ValueError(
            f"`labels` must have the shape {inputs.shape[:1]}, one per image. Received: shape {labels.shape}."
        )
    if batch_size is not None and len(inputs) > batch_size:
        raise ValueError(
            f"`batches` must have at most the size of the first batch, {batch_size} images. Received: {len(inputs)}."
        )
    return batch_size or len(inputs)


def cache_folder(cache_dir: PathLike | None, encoder: keras.Model | Callable) -> Path | None:
    """Create the folder of an encoder in a cache, and delete what interrupted writes left there.

    Args:
        cache_dir: Path of the cache folder, or `None` for no cache.
        encoder: See `fingerprint`.

    Returns:
        Path of the encoder's folder, or `None` for no cache.

    Example:
        >>> cache_folder(None, ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2))
    """
    if cache_dir is None:
        return None
    folder = Path(cache_dir) / fingerprint(encoder)[:32]
    folder.mkdir(parents=True, exist_ok=True)
    delete_abandoned(folder)
    return folder


def cached_outputs(
    folder: Path | None,
    images: np.ndarray,
    compute: Callable[[np.ndarray], tuple[np.ndarray, ...]],
    names: Sequence[str],
) -> tuple[np.ndarray, ...]:
    """Return the outputs of an encoder from a folder, or compute them and store them there atomically.

    Args:
        folder: Path of the encoder's folder in the cache, or `None` for no cache.
        images: (batch, height, width, 3) float32.
        compute: Function from the images to one array per name.
        names: Sequence of strings. Names of the outputs, which are part of the name of the file.

    Example:
        >>> cached_outputs(None, np.zeros(2), lambda x: (x + 1,), ("tokens",))
        (array([1., 1.]),)
    """
    if folder is None:
        return compute(images)
    digest = hashlib.sha256(str(images.shape).encode() + np.ascontiguousarray(images).tobytes()).hexdigest()[:32]
    path = folder / f"{digest}.{'_'.join(names)}.npz"
    try:
        with open(path, "rb") as file, np.load(file) as stored:
            return tuple(stored[name] for name in names)
    except (FileNotFoundError, zipfile.BadZipFile, EOFError, KeyError):
        outputs = compute(images)
    with write_atomically(path) as writer:
        np.savez(writer, **dict(zip(names, outputs, strict=True)))  # type: ignore[arg-type]
    return outputs
