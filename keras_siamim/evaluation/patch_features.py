"""Patch tokens of a frozen encoder, with the annotations of their images."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_siamim.evaluation.features import (
    cache_folder,
    cached_outputs,
    check_images,
    check_tokens_of,
    in_data_format_of,
    num_batches,
    run_padded,
)
from keras_siamim.ops import patchify
from keras_siamim.ops.pooling import num_prefix_tokens
from keras_siamim.types import ArrayLike, PathLike, Tensor


class PatchFeatures(NamedTuple):
    """Patch tokens of a split.

    Attributes:
        tokens: (images, rows * columns, width) float. Tokens of the last block, after the encoder's final norm if it
            has one, row by row, without the class token.
        grid: Tuple (rows, columns) of integers. Patches of each image.
        annotations: (images, ...) array, such as label maps (images, height, width) or labels (images,).
    """

    tokens: np.ndarray
    grid: tuple[int, int]
    annotations: np.ndarray


@keras.saving.register_keras_serializable(package="keras_siamim")
class RawPatches(keras.Model):
    """Encoder without weights whose patch tokens are the pixels of the patches: the baseline of dense protocols.

    Maps images (batch, height, width, 3) float32 to tokens (batch, 1 + patches, 3 * patch_size**2) float32; the class
    token is zero.

    Args:
        patch_size: Integer, 1 or more. Side of a patch in pixels.

    Raises:
        ValueError: If `patch_size` is below 1.

    Example:
        >>> tuple(RawPatches(patch_size=4)(np.zeros((1, 8, 12, 3), "float32")).shape)
        (1, 7, 48)
    """

    def __init__(self, patch_size: int, **kwargs):
        super().__init__(**kwargs)
        if patch_size < 1:
            raise ValueError(f"`patch_size` must be 1 or more. Received: {patch_size}.")
        self.patch_size = patch_size

    def call(self, images):
        patches = patchify(images, self.patch_size)
        return ops.concatenate([ops.zeros_like(patches[:, :1]), patches], axis=1)

    def get_config(self):
        return {**super().get_config(), "patch_size": self.patch_size}


def grid_of(image_size: tuple[int, int], patches: int) -> tuple[int, int]:
    """Return the grid of square patches that covers an image.

    Args:
        image_size: Tuple (height, width) in pixels.
        patches: Integer. Number of patches.

    Returns:
        Tuple (rows, columns).

    Raises:
        ValueError: If no square patch covers the image with this number of patches.

    Example:
        >>> grid_of((64, 96), 24)
        (4, 6)
    """
    height, width = image_size
    side = round((height * width / max(patches, 1)) ** 0.5)
    if not patches or not side or height % side or width % side or (height // side) * (width // side) != patches:
        raise ValueError(
            f"`encoder` must return one token per square patch of its {height} x {width} images, and a class token "
            f"before them. Received: {patches} tokens after the first."
        )
    return height // side, width // side


def extract_patch_features(
    encoder: keras.Model | Callable[[np.ndarray], Tensor],
    batches: Iterable[tuple[ArrayLike, ArrayLike]],
    cache_dir: PathLike | None = None,
    dtype: str = "float32",
    verbose: int = 0,
) -> PatchFeatures:
    """Run a frozen encoder over a split and return the tokens of all patches.

    Images may be of another size than those the encoder was trained with; a `ViTEncoder` resizes its positions.

    Args:
        encoder: `keras.Model`, or a callable on NumPy arrays such as a `SavedModelEncoder`. It maps normalized images
            (batch, height, width, 3) float32 to tokens (batch, 1 + patches, width), class token first.
        batches: Iterable of (images, annotations): images (batch, height, width, 3) float32, normalized, all of one
            size, and an array with one entry per image. The first batch is the largest.
        cache_dir: Path of the cache folder, or `None` for no cache. Defaults to `None`.
        dtype: `"float32"`, or `"float16"` for half the memory. Defaults to `"float32"`.
        verbose: Integer. 1 shows a progress bar. Defaults to 0.

    Returns:
        `PatchFeatures` in the order of the batches.

    Raises:
        ValueError: If there is no batch, a batch is malformed, or the tokens do not form a grid of square patches.

    Example:
        >>> encoder = ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2)
        >>> batch = (np.zeros((3, 8, 12, 3), "float32"), np.zeros((3, 8, 12), "uint8"))
        >>> features = extract_patch_features(encoder, [batch])
        >>> features.tokens.shape, features.grid
        ((3, 6, 8), (2, 3))
    """
    if dtype not in ("float32", "float16"):
        raise ValueError(f"`dtype` must be float32 or float16. Received: {dtype!r}.")
    folder = cache_folder(cache_dir, encoder)
    patch_tokens = patch_token_function(encoder)

    def run(images):
        return (patch_tokens(images),)

    progress = keras.utils.Progbar(num_batches(batches), verbose=verbose, unit_name="batch")
    tokens, annotations, size = [], [], None
    for images, batch_annotations in batches:
        images, batch_annotations = np.asarray(images), np.asarray(batch_annotations)
        check_images(images)
        size = size or images.shape
        if images.shape[1:] != size[1:] or not 0 < len(images) <= size[0]:
            raise ValueError(
                f"`batches` must hold images of one size, at most {size[0]} per batch as in the first. Received: shape "
                f"{images.shape} after {size}."
            )
        if len(batch_annotations) != len(images):
            raise ValueError(
                f"`batches` must hold one annotation per image. Received: {len(batch_annotations)} for {len(images)}."
            )

        def compute(x, count=size[0]):
            return run_padded(run, x, count)

        tokens.append(cached_outputs(folder, images, compute, ("tokens",))[0].astype(dtype))
        annotations.append(batch_annotations)
        progress.add(1)
    if size is None:
        raise ValueError("`batches` must yield at least one batch. Received: none.")
    grid = grid_of(size[1:3], tokens[0].shape[1])
    return PatchFeatures(np.concatenate(tokens), grid, np.concatenate(annotations))


class _PatchTokens(keras.Model):
    """Encoder whose class token is dropped."""

    def __init__(self, encoder):
        super().__init__(name="patch_tokens")
        self.encoder = encoder

    def call(self, images):
        tokens = check_tokens_of(self.encoder(in_data_format_of(self.encoder, images), training=False))
        return ops.cast(tokens[:, num_prefix_tokens(self.encoder) :], "float32")


def patch_token_function(
    encoder: keras.Model | Callable[[np.ndarray], Tensor],
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from images to their patch tokens, which compiles an encoder once for each size of batches.

    Args:
        encoder: See `extract_patch_features`.

    Returns:
        Function from images (batch, height, width, 3) float32 to tokens (batch, patches, width) float32.

    Example:
        >>> patch_token_function(RawPatches(4))(np.zeros((2, 8, 8, 3), "float32")).shape
        (2, 4, 48)
    """
    if isinstance(encoder, keras.Model):
        return _PatchTokens(encoder).predict_on_batch
    prefix = num_prefix_tokens(encoder)
    return lambda images: check_tokens_of(np.asarray(encoder(images), dtype="float32"))[:, prefix:]
