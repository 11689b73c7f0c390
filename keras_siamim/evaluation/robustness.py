"""Robustness of a classifier: published ImageNet variants, and on-the-fly corruption of any data set.

- ImageNet-A (arXiv 1907.07174), ImageNet-R (arXiv 2006.16241), ImageNet-Sketch (arXiv 1905.13549): top-1 accuracy. For
  A and R, the prediction is one of their 200 classes.
- ImageNet-C (arXiv 1903.12261): error rates relative to AlexNet's.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from keras_siamim.evaluation.checks import check_labels
from keras_siamim.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from keras_siamim.evaluation.logits import predict_logits, top1
from keras_siamim.evaluation.result import EvaluationResult, stopwatch
from keras_siamim.types import ArrayLike, PathLike, Tensor

_PUBLISHED = json.loads(resources.files(__package__).joinpath("imagenet_robustness.json").read_text(encoding="utf-8"))
WORDNET_IDS = tuple(_PUBLISHED["imagenet_1k_wordnet_ids"])
ALEXNET_ERRORS = dict(_PUBLISHED["imagenet_c_alexnet_mean_errors"])
VARIANTS = {
    "imagenet_a": tuple(_PUBLISHED["imagenet_a_wordnet_ids"]),
    "imagenet_r": tuple(_PUBLISHED["imagenet_r_wordnet_ids"]),
    "imagenet_sketch": WORDNET_IDS,
}


def imagenet_classes(wordnet_ids: Sequence[str]) -> np.ndarray:
    """Return the class indices of WordNet ids, which are the folder names of the published data sets.

    Args:
        wordnet_ids: Sequence of str. WordNet ids such as `"n01440764"`.

    Returns:
        `(ids,)` int64 in [0, 999].

    Raises:
        ValueError: If an id is not one of ImageNet's 1,000 classes.

    Example:
        >>> imagenet_classes(["n01440764", "n01443537"]).tolist()
        [0, 1]
    """
    indices = {wordnet_id: index for index, wordnet_id in enumerate(WORDNET_IDS)}
    unknown = [name for name in wordnet_ids if name not in indices]
    if unknown:
        raise ValueError(f"`wordnet_ids` must be among ImageNet's 1,000 classes. Received: {unknown[:5]}.")
    return np.array([indices[name] for name in wordnet_ids], np.int64)


def imagenet_variant(logits: ArrayLike, labels: ArrayLike, variant: str) -> EvaluationResult:
    """Evaluate top-1 accuracy on ImageNet-A, -R or -Sketch, with the logits of absent classes masked.

    Args:
        logits: `(images, 1000)` floats. Logits of ImageNet's classes in their usual order.
        labels: `(images,)` integers in [0, 999]. Class indices; see `imagenet_classes` for folder names.
        variant: str. Name of the variant, a key of `VARIANTS`.

    Returns:
        An `EvaluationResult` with `top1`, and `top1_unmasked` among all 1,000 classes.

    Raises:
        ValueError: If an argument is malformed or a label is not a class of the variant.

    Example:
        >>> imagenet_variant(np.eye(1000)[:4], [0, 1, 2, 4], "imagenet_sketch").numbers["top1"]
        0.75
    """
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {', '.join(VARIANTS)}. Received: {variant!r}.")
    logits = np.asarray(logits)
    if logits.ndim != 2 or logits.shape[1] != len(WORDNET_IDS) or not len(logits):
        raise ValueError(f"`logits` must be (images, 1000) with at least one image. Received: {logits.shape}.")
    if np.isnan(logits).any():
        raise ValueError(
            f"`logits` must be free of NaN. Received: NaN for {int(np.isnan(logits).any(axis=1).sum())} images."
        )
    labels = check_labels(labels, len(logits), "labels", len(WORDNET_IDS))
    allowed = imagenet_classes(VARIANTS[variant])
    outside = np.setdiff1d(labels, allowed)
    if len(outside):
        raise ValueError(f"`labels` must be among the {len(allowed)} classes of {variant}. Received: {outside[:5]}.")
    with stopwatch() as seconds:
        masked = np.full_like(logits, -np.inf)
        masked[:, allowed] = logits[:, allowed]
        numbers = {"top1": top1(masked, labels), "top1_unmasked": top1(logits, labels)}
    return EvaluationResult(
        protocol=variant,
        numbers=numbers,
        settings={"masked_to_classes": len(allowed)},
        data={"images": len(labels), "classes": len(np.unique(labels))},
        seed=None,
        seconds=seconds(),
    )


def imagenet_c_folders(root: PathLike) -> dict[str, list[Path]]:
    """Find the 15 x 5 folders of the published ImageNet-C data set.

    Args:
        root: Path. Folder that contains `gaussian_noise/1/n01440764/...`, directly or inside the four groups of the
            published archives (`noise/`, `blur/`, `weather/`, `digital/`).

    Returns:
        For every corruption, the folders of severities 1 to 5, each with one folder per class.

    Raises:
        ValueError: If a folder is missing.
    """
    root, found = Path(root), {}
    for corruption in ALEXNET_ERRORS:
        candidates = [root / corruption, *sorted(root.glob(f"*/{corruption}"))]
        folders = next((p for p in candidates if all((p / str(s)).is_dir() for s in SEVERITIES)), None)
        if folders is None:
            raise ValueError(f"`root` must contain {corruption}/1 ... {corruption}/5. Received: {str(root)!r}.")
        found[corruption] = [folders / str(severity) for severity in SEVERITIES]
    return found


def imagenet_c(errors: Mapping[str, ArrayLike]) -> EvaluationResult:
    """Compute the mean corruption error (mCE): error rates relative to AlexNet's, averaged over the 15 corruptions.

    Args:
        errors: Mapping of the 15 corruption names to five floats in [0, 1]. Top-1 error rates at severities 1 to 5 on
            the published ImageNet-C.

    Returns:
        An `EvaluationResult` with `mce`, `one_minus_mce` (the paper's column), and `ce_*` per corruption.

    Raises:
        ValueError: If a corruption or severity is missing, or an error rate is outside [0, 1].

    Example:
        >>> alexnet = {name: [error] * 5 for name, error in ALEXNET_ERRORS.items()}
        >>> round(imagenet_c(alexnet).numbers["mce"], 6)
        1.0
    """
    wrong = sorted(set(errors) ^ set(ALEXNET_ERRORS))
    if wrong:
        raise ValueError(
            f"`errors` must have ImageNet-C's 15 corruptions as keys. Received: missing or unknown keys {wrong}."
        )
    relative = {}
    for corruption, values in errors.items():
        values = np.asarray(values, float)
        if values.shape != (len(SEVERITIES),) or not ((values >= 0) & (values <= 1)).all():
            raise ValueError(
                f"`errors` must be five values in [0, 1] per corruption. Received: {values} for {corruption}."
            )
        relative[corruption] = float(values.mean() / ALEXNET_ERRORS[corruption])
    mce = float(np.mean(list(relative.values())))
    return EvaluationResult(
        protocol="imagenet_c",
        numbers={"mce": mce, "one_minus_mce": 1 - mce} | {f"ce_{name}": value for name, value in relative.items()},
        settings={"relative_to": "AlexNet"},
        data={"corruptions": len(errors), "severities": len(SEVERITIES)},
        seed=None,
        seconds=0.0,
    )


def corrupted_batches(
    batches: Iterable, corruption: str, severity: int, mean: ArrayLike, std: ArrayLike, seed: int = 0
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield the batches of a split with every image corrupted.

    Args:
        batches: Iterable of (images, labels). Images are `(batch, height, width, 3)` float32, normalized.
        corruption: str. Name of the corruption, a key of `corruptions.CORRUPTIONS`.
        severity: int in [1, 5]. Severity from slight to strong.
        mean: `(3,)` floats. Mean of the normalization, per channel of images in [0, 1].
        std: `(3,)` floats. Standard deviation of the normalization.
        seed: int. Random seed. The image at index i of the split is corrupted with the seed (seed, i). Defaults to 0.

    Yields:
        (images, labels). Images are normalized again.

    Example:
        >>> batches = [(np.zeros((2, 8, 8, 3), "float32"), np.array([0, 1]))]
        >>> images, labels = next(corrupted_batches(batches, "fog", 3, mean=[0.5] * 3, std=[0.2] * 3))
        >>> images.shape, labels.tolist()
        ((2, 8, 8, 3), [0, 1])
    """
    mean, std, first = np.asarray(mean, "float32"), np.asarray(std, "float32"), 0
    for images, labels in batches:
        pixels = np.rint(np.clip(np.asarray(images) * std + mean, 0, 1) * 255).astype(np.uint8)
        changed = [corrupt(image, corruption, severity, (seed, first + i)) for i, image in enumerate(pixels)]
        first += len(changed)
        yield (np.stack(changed).astype("float32") / 255 - mean) / std, labels


def corruption_robustness(
    classifier: Callable,
    batches: Iterable,
    mean: ArrayLike,
    std: ArrayLike,
    corruptions: Sequence[str] = tuple(CORRUPTIONS),
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
    progress: Callable[[str], None] = lambda message: None,
) -> EvaluationResult:
    """Evaluate a classifier on a split corrupted on the fly.

    The result is the mean error rate. ImageNet-C's mCE is another quantity: it is relative to AlexNet's error rates on
    the published images.

    Args:
        classifier: Keras model or callable. Maps normalized images to logits `(batch, classes)`.
        batches: Re-iterable of (images, labels). Images are `(batch, height, width, 3)` float32, normalized.
        mean: `(3,)` floats. Mean of the normalization, per channel of images in [0, 1].
        std: `(3,)` floats. Standard deviation of the normalization.
        corruptions: Sequence of str. Names of `corruptions.CORRUPTIONS`. Defaults to all.
        severities: Sequence of ints in [1, 5]. Severities to average over. Defaults to all.
        seed: int. Seed of the corruptions. Defaults to 0.
        progress: Callable. Receives one line of text after every corruption. Defaults to a no-op.

    Returns:
        An `EvaluationResult` with `clean_error`, `mean_corruption_error` and `error_*` per corruption.

    Raises:
        ValueError: If a name or severity is unknown, or the split is empty.

    Example:
        >>> batches = [(np.zeros((2, 8, 8, 3), "float32"), np.array([0, 1]))]
        >>> classifier = lambda images: np.tile([1.0, 0.0], (len(images), 1))
        >>> result = corruption_robustness(classifier, batches, [0.5] * 3, [0.2] * 3, ["contrast"])
        >>> result.numbers["mean_corruption_error"]
        0.5
    """
    if not corruptions or not set(corruptions) <= set(CORRUPTIONS):
        raise ValueError(f"`corruptions` must be some of {', '.join(CORRUPTIONS)}. Received: {tuple(corruptions)}.")
    if not severities or not set(severities) <= set(SEVERITIES):
        raise ValueError(f"`severities` must be integers in [1, 5]. Received: {tuple(severities)}.")
    with stopwatch() as seconds:
        logits, labels = predict_logits(classifier, batches)
        clean = 1 - top1(logits, labels)
        errors = {}
        for corruption in corruptions:
            rates = [
                1 - top1(*predict_logits(classifier, corrupted_batches(batches, corruption, severity, mean, std, seed)))
                for severity in severities
            ]
            errors[f"error_{corruption}"] = float(np.mean(rates))
            progress(f"{corruption}: error {errors[f'error_{corruption}']:.4f}")
    return EvaluationResult(
        protocol="corruption_robustness",
        numbers={"clean_error": clean, "mean_corruption_error": float(np.mean(list(errors.values())))} | errors,
        settings={"corruptions": list(corruptions), "severities": list(severities)},
        data={"images": len(labels)},
        seed=seed,
        seconds=seconds(),
    )
