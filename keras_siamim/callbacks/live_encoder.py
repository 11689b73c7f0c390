"""Features of an encoder while it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_siamim._backend import compile_inference
from keras_siamim.evaluation.features import check_images, check_tokens_of, in_data_format_of, run_padded
from keras_siamim.ops.pooling import check_pooling, num_prefix_tokens, pool_tokens
from keras_siamim.types import ArrayLike


class LiveEncoder:
    """Pooled features of the encoder of a model, which may train between two calls.

    The forward pass is compiled once, for batches of one size. It changes no variable, random state or iterator of the
    model. Several callbacks can share one object, and so the compiled program.

    Args:
        encoder: Layer or `keras.Model` from images to tokens, or to one vector per image. Defaults to None, the
            attribute `encoder` of the model that trains.
        pooling: `"mean"` of the patch tokens, or the class `"token"`. Defaults to `"mean"`.
        batch_size: Integer, 1 or more. Images per forward pass. Defaults to 128.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> encoder = ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2)
        >>> LiveEncoder(encoder).features(None, np.zeros((3, 8, 8, 3), "float32")).shape
        (3, 8)
    """

    def __init__(self, encoder: keras.Layer | None = None, pooling: str = "mean", batch_size: int = 128):
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be 1 or more. Received: {batch_size}.")
        self.encoder = encoder
        self.pooling = check_pooling(pooling)
        self.batch_size = batch_size
        self._compiled: tuple[keras.Layer, Callable] | None = None

    def features(self, model: Any, images: np.ndarray) -> np.ndarray:
        """Return the features of images by the present weights.

        Args:
            model: Model that trains; unused if the constructor was given an encoder.
            images: (images, height, width, 3) float32, normalized.

        Returns:
            (images, width) float32.

        Raises:
            ValueError: If the images have another rank or dtype.
        """
        check_images(images)
        encoder = model.encoder if self.encoder is None else self.encoder
        if self._compiled is None or self._compiled[0] is not encoder:
            self._compiled = encoder, compile_inference(encoder, lambda x: (self._pool(encoder, x),))
        run = self._compiled[1]
        starts = range(0, len(images), self.batch_size)
        return np.concatenate([run_padded(run, images[i : i + self.batch_size], self.batch_size)[0] for i in starts])

    def _pool(self, encoder, images):
        output = ops.cast(encoder(in_data_format_of(encoder, images), training=False), "float32")
        if len(output.shape) == 2:
            return output
        return pool_tokens(check_tokens_of(output), self.pooling, num_prefix_tokens(encoder))


class LabeledSplits:
    """Labeled images on which callbacks measure an encoder while it trains.

    Callbacks that share one object also share the features of an epoch. Images with a negative label are ignored.

    Args:
        train: Iterable of batches (images, labels) that can be iterated again, or a tuple of two arrays. Images are
            (batch, height, width, 3) float32, normalized. Labels are (batch,) integers. Draw a part of a
            larger set at random over all classes.
        test: The same for held-out images.
        encoder: `LiveEncoder`. Defaults to one for the encoder of the model that trains.

    Example:
        >>> images, labels = np.zeros((2, 8, 8, 3), "float32"), np.array([0, 1])
        >>> splits = LabeledSplits((images, labels), (images, labels))
        >>> model = SiameseIM(ViTEncoder(8, 4, width=8, depth=1, num_heads=2), decoder_width=8, decoder_heads=2)
        >>> [array.shape for array in splits.features(model)]
        [(2, 8), (2,), (2, 8), (2,)]
    """

    def __init__(self, train: Iterable | tuple, test: Iterable | tuple, encoder: LiveEncoder | None = None):
        self.train, self.test = train, test
        self.encoder = encoder or LiveEncoder()
        self._features: tuple[np.ndarray, ...] | None = None

    def forget(self) -> None:
        """Drop the features of the last call, because the encoder has changed."""
        self._features = None

    def features(self, model: keras.Model) -> tuple[np.ndarray, ...]:
        """Return features and labels of both splits, computed once until `forget` is called.

        Args:
            model: Model that trains.

        Returns:
            Train features (images, width) float32, train labels (images,) int64, and the same for the test split.

        Raises:
            ValueError: If a split has no labeled image, or the training images are of fewer than two classes.
        """
        if self._features is None:
            train, test = self._extract(model, self.train), self._extract(model, self.test)
            classes = np.unique(train[1])
            if len(classes) < 2 or not len(test[1]):
                raise ValueError(
                    "labeled images of two or more classes are needed for training, and one or more for the test; "
                    f"there are {len(classes)} classes and {len(test[1])} test images"
                )
            self._features = (*train, *test)
        return self._features

    def _extract(self, model, split) -> tuple[np.ndarray, np.ndarray]:
        is_pair = isinstance(split, tuple) and len(split) == 2 and np.ndim(split[0]) == 4
        features: list[np.ndarray] = []
        labels: list[ArrayLike] = []
        for images, batch_labels in [split] if is_pair else split:
            kept = np.asarray(batch_labels) >= 0
            if kept.any():
                features.append(self.encoder.features(model, np.asarray(images)[kept]))
                labels.append(np.asarray(batch_labels)[kept])
        if not labels:
            return np.zeros((0, 1), "float32"), np.zeros(0, "int64")
        return np.concatenate(features), np.concatenate(labels).astype("int64")
