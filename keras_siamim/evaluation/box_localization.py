"""Localization of one object per image: ridge regression from all patch tokens to a box.

A check of position information for data sets with one box per image, such as Tiny ImageNet, without a detector.
"""

from collections.abc import Sequence

import numpy as np

from keras_siamim.evaluation.boxes import box_iou, centers_of, corners_of
from keras_siamim.evaluation.checks import check_boxes, check_tokens
from keras_siamim.evaluation.few_shot import held_out_images
from keras_siamim.evaluation.result import EvaluationResult, stopwatch
from keras_siamim.evaluation.ridge import LinearMap, fit_ridge
from keras_siamim.types import ArrayLike

PENALTIES = (1e2, 1e1, 1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
_MIN_IOU = 0.5
_IMAGES_PER_CHUNK = 256


def channel_statistics(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and covariance of the channels over all patches of all images.

    Args:
        tokens: (images, patches, width) floats. A memory map is read in chunks.

    Returns:
        (width,) and (width, width) float64.

    Example:
        >>> mean, covariance = channel_statistics(np.array([[[1.0, 0.0], [3.0, 0.0]]]))
        >>> mean.tolist(), covariance.tolist()
        ([2.0, 0.0], [[1.0, 0.0], [0.0, 0.0]])
    """
    width, count = tokens.shape[2], tokens.shape[0] * tokens.shape[1]

    def chunks():
        for start in range(0, len(tokens), _IMAGES_PER_CHUNK):
            yield np.asarray(tokens[start : start + _IMAGES_PER_CHUNK], "float64").reshape(-1, width)

    mean = sum(chunk.sum(axis=0) for chunk in chunks()) / count
    # Of centered channels: the difference of two large moments would lose digits.
    return mean, sum((chunk - mean).T @ (chunk - mean) for chunk in chunks()) / count


def box_localization(
    train_tokens: ArrayLike,
    train_boxes: ArrayLike,
    test_tokens: ArrayLike,
    test_boxes: ArrayLike,
    penalties: Sequence[float] = PENALTIES,
    channels: int | None = None,
    held_out: float = 0.1,
    seed: int = 0,
    verbose: int = 0,
) -> EvaluationResult:
    """Regress the box of each image from its patch tokens by ridge regression, and evaluate it on the test split.

    Channels are standardized by the patches of the train split. The tokens of all patches are concatenated. The
    regression predicts the center and size of the box, relative to the image, in float64. It minimizes the mean squared
    error + λ ||W||^2 of inputs that are divided by the square root of their number. λ is selected by the mean IoU on
    a held-out part of the train split; the regression is then solved on the complete train split and evaluated once.
    Predicted boxes are clipped to the image.

    Args:
        train_tokens: (train images, patches, width) floats.
        train_boxes: (train images, 4) floats: x1, y1, x2, y2 in [0, 1], relative to the image as the encoder sees it.
        test_tokens: (test images, patches, width) floats.
        test_boxes: (test images, 4) floats, like `train_boxes`.
        penalties: Sequence of floats above 0. Values of λ. Defaults to `PENALTIES`.
        channels: Integer in [1, width], or `None`. Number of principal components to which a 1x1 projection reduces the
            standardized channels, for large grids. `None` keeps all channels. Defaults to `None`.
        held_out: Float in (0, 1). Share of the train split that selects λ. Defaults to 0.1.
        seed: Integer. Seed of the held-out part. Defaults to 0.
        verbose: Integer. 1 shows a progress bar for each of the two fits. Defaults to 0.

    Returns:
        An `EvaluationResult` with `mean_iou`, `share_iou_50` (share of images with an IoU of 0.5 or more), the same of
        the constant box that is the mean of the training boxes (`constant_mean_iou`, `constant_share_iou_50`),
        `mean_iou_held_out` and `penalty`.

    Raises:
        ValueError: If tokens or boxes are malformed, a setting is out of its range, or the inputs are too many to
            solve for; see `ridge.fit_ridge`.

    Example:
        >>> corners = np.random.default_rng(0).uniform([0, 0, 0.6, 0.6], [0.4, 0.4, 1, 1], (40, 4))
        >>> result = box_localization(corners[:, None], corners, corners[:, None], corners)
        >>> result.numbers["mean_iou"] > 0.99 > result.numbers["constant_mean_iou"]
        True
    """
    train_tokens, train_boxes = _check_split(train_tokens, train_boxes, "train")
    test_tokens, test_boxes = _check_split(test_tokens, test_boxes, "test")
    if train_tokens.shape[1:] != test_tokens.shape[1:]:
        raise ValueError(
            f"`test_tokens` must have the patches and width of `train_tokens`, {train_tokens.shape[1:]}. Received: "
            f"{test_tokens.shape[1:]}."
        )
    images, patches, width = train_tokens.shape
    if not penalties or not all(penalty > 0 for penalty in penalties):
        raise ValueError(f"`penalties` must be one or more values above 0. Received: {penalties}.")
    if channels is not None and not 1 <= channels <= width:
        raise ValueError(f"`channels` must be in [1, {width}], the width of the tokens. Received: {channels}.")
    if images < 2:
        raise ValueError(f"`train_tokens` must hold at least two images, one of them to hold out. Received: {images}.")
    with stopwatch() as seconds:
        chosen = held_out_images(images, held_out, seed)
        held_out_ids, fit_ids = np.flatnonzero(chosen), np.flatnonzero(~chosen)
        fitted = _fit(train_tokens[fit_ids], train_boxes[fit_ids], penalties, channels, verbose)
        overlaps = [
            float(box_iou(predict(train_tokens[held_out_ids]), train_boxes[held_out_ids]).mean()) for predict in fitted
        ]
        best = int(np.argmax(overlaps))
        (predict,) = _fit(train_tokens, train_boxes, penalties[best : best + 1], channels, verbose)
        overlap = box_iou(predict(test_tokens), test_boxes)
        constant = box_iou(corners_of(centers_of(train_boxes).mean(axis=0)), test_boxes)
    penalty, notes = float(penalties[best]), []
    if len(penalties) > 1 and penalty in (min(penalties), max(penalties)):
        notes.append(f"The best penalty, {penalty:g}, is at the edge of those tried.")
    return EvaluationResult(
        protocol="box_localization",
        numbers={
            "mean_iou": float(overlap.mean()),
            "share_iou_50": float(np.mean(overlap >= _MIN_IOU)),
            "constant_mean_iou": float(constant.mean()),
            "constant_share_iou_50": float(np.mean(constant >= _MIN_IOU)),
            "mean_iou_held_out": overlaps[best],
            "penalty": penalty,
        },
        settings={"penalties": list(penalties), "channels": channels, "held_out": held_out},
        data={"train_images": images, "test_images": len(test_tokens), "patches": patches, "width": width},
        seed=seed,
        seconds=seconds(),
        notes=tuple(notes),
    )


def _check_split(tokens: ArrayLike, boxes: ArrayLike, split: str) -> tuple[np.ndarray, np.ndarray]:
    tokens, boxes = check_tokens(tokens, f"{split}_tokens"), check_boxes(boxes, f"{split}_boxes")
    if len(boxes) != len(tokens):
        raise ValueError(f"`{split}_boxes` must have one box per image, {len(tokens)}. Received: {len(boxes)}.")
    if boxes.min() < 0 or boxes.max() > 1:
        raise ValueError(
            f"`{split}_boxes` must be relative to the image, in [0, 1]. Received: values in [{boxes.min():g}, "
            f"{boxes.max():g}]."
        )
    return tokens, boxes


class _Predictor:
    """Function from tokens to boxes (x1, y1, x2, y2), clipped to the image."""

    def __init__(self, projection: np.ndarray | None, linear: LinearMap):
        self.projection, self.linear = projection, linear

    def __call__(self, tokens):
        centers = self.linear(_flat(tokens, self.projection))
        return np.clip(corners_of(centers), 0, 1)


def _fit(tokens, boxes, penalties, channels, verbose):
    """Return one `_Predictor` per penalty."""
    covariance = channel_statistics(tokens)[1]
    variance = np.diagonal(covariance)
    used = variance > 1e-18 * (1 + variance.max())
    scale = np.where(used, 1 / np.sqrt(np.where(used, variance, 1)), 0)
    projection = None
    if channels is not None:
        # The intercept of the regression takes care of the means.
        vectors = np.linalg.eigh(covariance * scale * scale[:, None])[1]
        projection, scale = scale[:, None] * vectors[:, ::-1][:, :channels], np.ones(channels)
    inputs = _flat(tokens, projection)
    scale = np.tile(scale, tokens.shape[1]) / np.sqrt(inputs.shape[1])
    fits = fit_ridge(inputs, centers_of(boxes), penalties, scale, verbose)
    return [_Predictor(projection, linear) for linear in fits]


def _flat(tokens, projection):
    """Return the inputs of the regression (images, patches * channels), projected chunk by chunk to float32."""
    if projection is None:
        return tokens.reshape(len(tokens), -1)
    starts = range(0, len(tokens), _IMAGES_PER_CHUNK)
    chunks = [(tokens[i : i + _IMAGES_PER_CHUNK].astype("float64") @ projection).astype("float32") for i in starts]
    return np.concatenate(chunks).reshape(len(tokens), -1)
