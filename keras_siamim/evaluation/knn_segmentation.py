"""k-nearest-neighbor segmentation of frozen patch tokens (CAPI, arXiv 2502.08769)."""

from collections.abc import Sequence

import numpy as np

from keras_siamim.evaluation.mean_iou import IGNORE, MeanIoU
from keras_siamim.evaluation.patch_features import PatchFeatures
from keras_siamim.evaluation.patch_labels import count_labels
from keras_siamim.evaluation.patch_neighbors import nearest_rows
from keras_siamim.evaluation.result import EvaluationResult, stopwatch
from keras_siamim.evaluation.segmentation_protocol import (
    LabeledPatches,
    describe_patches,
    missing_classes,
    prepare_patches,
    result_numbers,
)

NEIGHBORS = (1, 3, 10, 30)
METRICS = ("cosine", "l2")
# Queries whose votes are counted at a time.
_VOTE_CHUNK = 256


def vote_per_pixel(
    neighbor_labels: np.ndarray, fallback: np.ndarray, k: Sequence[int], num_classes: int, ignore: int = IGNORE
) -> list[np.ndarray]:
    """Return the most frequent label of each pixel over the first neighbors, for several numbers of them.

    Ignored pixels do not vote, and ties go to the smallest class.

    Args:
        neighbor_labels: (queries, neighbors, pixels) integers, nearest neighbors first.
        fallback: (queries,) integers. Class of pixels without a vote.
        k: Sequence of ascending integers. Numbers of neighbors.
        num_classes: Integer. Number of classes.
        ignore: Integer. Label of pixels without a class. Defaults to 255.

    Returns:
        List of (queries, pixels) int64, one per value of `k`.

    Example:
        >>> labels = np.array([[[1, 255], [0, 255], [0, 1]]])
        >>> [votes.tolist() for votes in vote_per_pixel(labels, np.array([1]), (1, 3), num_classes=2)]
        [[[1, 1]], [[0, 1]]]
    """
    queries, _, pixels = neighbor_labels.shape
    by_pixel = neighbor_labels.transpose(0, 2, 1).reshape(queries * pixels, -1)
    counts = np.zeros((queries * pixels, num_classes), "int64")
    found, first = [], 0
    for last in k:
        counts += count_labels(by_pixel[:, first:last], num_classes, ignore)
        first = last
        winners = counts.argmax(axis=1)
        without = ~counts.any(axis=1)
        winners[without] = np.repeat(fallback, pixels)[without]
        found.append(winners.reshape(queries, pixels))
    return found


def knn_scores(
    bank: LabeledPatches,
    queries: LabeledPatches,
    k: Sequence[int],
    metric: str,
    num_classes: int,
    ignore: int = IGNORE,
    verbose: int = 0,
) -> list[MeanIoU]:
    """Segment patches by their nearest neighbors, for several numbers of them.

    Args:
        bank: `LabeledPatches`. Training patches.
        queries: `LabeledPatches`. Patches to segment.
        k: Sequence of ascending integers, at most the number of training patches.
        metric: `"cosine"` or `"l2"`.
        num_classes: Integer. Number of classes.
        ignore: Integer. Label of pixels without a class. Defaults to 255.
        verbose: Integer. 1 shows a progress bar. Defaults to 0.

    Returns:
        List of `MeanIoU`, one per value of `k`.
    """
    ids = nearest_rows(queries.tokens, bank.tokens, k[-1], metric, verbose=verbose)
    totals = [MeanIoU(num_classes, ignore) for _ in k]
    for start in range(0, len(ids), _VOTE_CHUNK):
        part = slice(start, start + _VOTE_CHUNK)
        nearest = bank.classes[ids[part, 0]]
        votes = vote_per_pixel(bank.labels[ids[part]], nearest, k, num_classes, ignore)
        for total, predicted in zip(totals, votes, strict=True):
            total.update(queries.labels[part], predicted)
    return totals


def knn_segmentation(
    train: PatchFeatures,
    test: PatchFeatures,
    num_classes: int,
    ignore: int = IGNORE,
    k: Sequence[int] = NEIGHBORS,
    metrics: Sequence[str] = METRICS,
    held_out: float = 0.1,
    class_names: Sequence[str] = (),
    seed: int = 0,
    verbose: int = 0,
) -> EvaluationResult:
    """Segment each test patch by the label maps of its nearest training patches.

    Tokens are standardized per channel by the train split. Training patches without a label are left out. A pixel gets
    the most frequent label at its place over the neighbors' label maps. `k` and the metric are selected on held-out
    training images; all training images then predict the test split once.

    Args:
        train: `PatchFeatures` with label maps (images, height, width) at the size of the images.
        test: `PatchFeatures` with label maps.
        num_classes: Integer. Number of classes.
        ignore: Integer. Label of pixels without a class. Defaults to 255.
        k: Sequence of integers, 1 or more. Numbers of neighbors. Defaults to (1, 3, 10, 30).
        metrics: Sequence of `"cosine"` and `"l2"`. Defaults to both.
        held_out: Float in (0, 1). Share of the training images that selects the settings. Defaults to 0.1.
        class_names: Sequence of strings. Names of the classes. Defaults to their indices.
        seed: Integer. Seed of the held-out images. Defaults to 0.
        verbose: Integer. 1 shows progress bars. Defaults to 0.

    Returns:
        An `EvaluationResult` with `miou`, `pixel_accuracy`, `mean_accuracy`, `miou_held_out`, and one `iou NAME` per
        class that occurs. `settings` names the selected `k` and `metric`.

    Raises:
        ValueError: If the splits do not fit each other, have too few labels, or a setting is out of its range.

    Example:
        >>> tokens = np.repeat(np.eye(2, dtype="float32"), 2, axis=0)[None].repeat(4, axis=0)
        >>> split = PatchFeatures(tokens, (2, 2), np.repeat([[[0, 0], [1, 1]]], 4, axis=0))
        >>> knn_segmentation(split, split, num_classes=2, k=(1,)).numbers["miou"]
        1.0
    """
    if not k or any(value < 1 for value in k):
        raise ValueError(f"`k` must be one or more positive integers. Received: {k}.")
    if not metrics:
        raise ValueError(f"`metrics` must be one or more of cosine, l2. Received: {metrics}.")
    with stopwatch() as seconds:
        patches = prepare_patches(train, test, num_classes, ignore, held_out, seed)
        fitted, validation = patches.train.select(~patches.held_out), patches.train.select(patches.held_out)
        used = sorted({min(int(value), len(fitted.tokens)) for value in k})
        scores: dict[tuple[str, int], float] = {}
        for metric in metrics:
            totals = knn_scores(fitted, validation, used, metric, num_classes, ignore, verbose)
            scores |= {(metric, value): total.scores().mean_iou for value, total in zip(used, totals, strict=True)}
        best_metric, best_k = max(scores, key=lambda setting: scores[setting])
        (total,) = knn_scores(patches.train, patches.test, [best_k], best_metric, num_classes, ignore, verbose)
    notes = list(missing_classes(patches, num_classes, class_names))
    if max(k) > len(fitted.tokens):
        notes.append(f"k was reduced to {len(fitted.tokens)}, the number of training patches.")
    return EvaluationResult(
        protocol="knn_segmentation",
        numbers=result_numbers(total.scores(), scores[best_metric, best_k], class_names),
        settings={"k": best_k, "metric": best_metric, "tried_k": used, "tried_metrics": list(metrics)},
        data=describe_patches(patches, train, test, num_classes),
        seed=seed,
        seconds=seconds(),
        notes=tuple(notes),
    )
