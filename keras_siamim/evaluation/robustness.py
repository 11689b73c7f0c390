"""Robustness of a classifier: the published ImageNet variants, and corruption on the fly for any data set.

ImageNet-A (arXiv 1907.07174), ImageNet-R (arXiv 2006.16241), ImageNet-Sketch (arXiv 1905.13549): top-1, for A and R
among their 200 classes. ImageNet-C (arXiv 1903.12261): errors relative to AlexNet's.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from keras_siamim.evaluation.checks import check_labels
from keras_siamim.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from keras_siamim.evaluation.logits import predict_logits, top1
from keras_siamim.evaluation.result import EvaluationResult, stopwatch

_PUBLISHED = json.loads(resources.files(__package__).joinpath("imagenet_robustness.json").read_text(encoding="utf-8"))
WORDNET_IDS = tuple(_PUBLISHED["imagenet_1k_wordnet_ids"])
ALEXNET_ERRORS = dict(_PUBLISHED["imagenet_c_alexnet_mean_errors"])
VARIANTS = {
    "imagenet_a": tuple(_PUBLISHED["imagenet_a_wordnet_ids"]),
    "imagenet_r": tuple(_PUBLISHED["imagenet_r_wordnet_ids"]),
    "imagenet_sketch": WORDNET_IDS,
}


def imagenet_classes(wordnet_ids: Sequence[str]) -> np.ndarray:
    """Return the class numbers, 0...999, of WordNet ids such as the class folders of the published trees.

    Args:
        wordnet_ids: such as `"n01440764"`.

    Returns:
        (ids,) int64.

    Raises:
        ValueError: if an id is not one of ImageNet's 1,000 classes.
    """
    numbers = {wordnet_id: number for number, wordnet_id in enumerate(WORDNET_IDS)}
    unknown = [name for name in wordnet_ids if name not in numbers]
    if unknown:
        raise ValueError(f"`wordnet_ids` must be among ImageNet's 1,000 classes; received {unknown[:5]}.")
    return np.array([numbers[name] for name in wordnet_ids], np.int64)


def imagenet_variant(logits, labels, variant: str) -> EvaluationResult:
    """Measure top-1 on ImageNet-A, -R or -Sketch, the logits of classes that the variant lacks masked out.

    Args:
        logits: (images, 1000) floats of a classifier of ImageNet's classes in their usual order.
        labels: (images,) integers, classes 0...999; see `imagenet_classes` for the folders of a tree.
        variant: one of `VARIANTS`.

    Returns:
        An `EvaluationResult` with `top1`, and `top1_unmasked` among all 1,000.

    Raises:
        ValueError: if an argument is malformed or a label is not among the variant's classes.
    """
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {', '.join(VARIANTS)}; received {variant!r}.")
    logits = np.asarray(logits)
    if logits.ndim != 2 or logits.shape[1] != len(WORDNET_IDS) or not len(logits):
        raise ValueError(f"`logits` must be (images, 1000), one image or more; received {logits.shape}.")
    if np.isnan(logits).any():
        raise ValueError(
            f"`logits` must not be NaN; received NaN for {int(np.isnan(logits).any(axis=1).sum())} images."
        )
    labels = check_labels(labels, len(logits), "labels", len(WORDNET_IDS))
    allowed = imagenet_classes(VARIANTS[variant])
    outside = np.setdiff1d(labels, allowed)
    if len(outside):
        raise ValueError(f"`labels` must be among the {len(allowed)} classes of {variant}; received {outside[:5]}.")
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


def imagenet_c_folders(root) -> dict[str, list[Path]]:
    """Find the 15 x 5 folders of the published ImageNet-C tree.

    Args:
        root: folder that holds `gaussian_noise/1/n01440764/...`, directly or inside the four groups of the published
            archives (`noise/`, `blur/`, `weather/`, `digital/`).

    Returns:
        For each corruption the folders of severities 1...5, each with one folder per class.

    Raises:
        ValueError: if one is missing.
    """
    root, found = Path(root), {}
    for corruption in ALEXNET_ERRORS:
        places = [root / corruption, *sorted(root.glob(f"*/{corruption}"))]
        folders = next((p for p in places if all((p / str(s)).is_dir() for s in SEVERITIES)), None)
        if folders is None:
            raise ValueError(f"`root` must hold {corruption}/1 ... {corruption}/5; {str(root)!r} does not.")
        found[corruption] = [folders / str(severity) for severity in SEVERITIES]
    return found


def imagenet_c(errors: Mapping[str, Sequence[float]]) -> EvaluationResult:
    """Compute mCE: each corruption's mean error relative to AlexNet's, averaged over the 15.

    Args:
        errors: for each of the 15 corruptions the top-1 errors, 0...1, at severities 1...5 on the published ImageNet-C.

    Returns:
        An `EvaluationResult` with `mce`, `one_minus_mce` (the paper's column), and `ce_*` of each corruption.

    Raises:
        ValueError: if a corruption or severity is missing, or an error is outside 0...1.
    """
    wrong = sorted(set(errors) ^ set(ALEXNET_ERRORS))
    if wrong:
        raise ValueError(f"`errors` must have exactly ImageNet-C's 15 corruptions; missing or unknown: {wrong}.")
    relative = {}
    for corruption, values in errors.items():
        values = np.asarray(values, float)
        if values.shape != (len(SEVERITIES),) or not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"`errors` must be five values in 0...1 per corruption; {corruption} has {values}.")
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


def corrupted_batches(batches: Iterable, corruption: str, severity: int, mean, std, seed: int = 0):
    """Yield the batches of a split with every image corrupted, by a seed of its own.

    Args:
        batches: yields (images, labels) with images (batch, height, width, 3) float32, normalized.
        corruption: one of `corruptions.CORRUPTIONS`.
        severity: 1...5.
        mean: of the normalization, per channel of images in 0...1.
        std: of the normalization.
        seed: image number i of the split is corrupted by the seed (seed, i).

    Yields:
        (images, labels), images normalized again.
    """
    mean, std, number = np.asarray(mean, "float32"), np.asarray(std, "float32"), 0
    for images, labels in batches:
        pixels = np.rint(np.clip(np.asarray(images) * std + mean, 0, 1) * 255).astype(np.uint8)
        changed = [corrupt(image, corruption, severity, (seed, number + i)) for i, image in enumerate(pixels)]
        number += len(changed)
        yield (np.stack(changed).astype("float32") / 255 - mean) / std, labels


def corruption_robustness(
    classifier: Callable,
    batches: Iterable,
    mean,
    std,
    corruptions: Sequence[str] = tuple(CORRUPTIONS),
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
    progress: Callable[[str], None] = lambda message: None,
) -> EvaluationResult:
    """Measure a classifier on a split corrupted on the fly.

    The result is a plain mean of errors, not ImageNet-C's mCE, which is relative to AlexNet's errors on other images.

    Args:
        classifier: Keras model, or a callable, from normalized images to logits (batch, classes).
        batches: re-iterable; yields (images, labels) with images (batch, height, width, 3) float32, normalized.
        mean: of the normalization, per channel of images in 0...1.
        std: of the normalization.
        corruptions: names, some of `corruptions.CORRUPTIONS`.
        severities: some of 1...5.
        seed: of the corruptions.
        progress: told a line of text after every corruption.

    Returns:
        An `EvaluationResult` with `clean_error`, `mean_corruption_error` and `error_*` of each corruption.

    Raises:
        ValueError: if a name or severity is unknown, or the split is empty.
    """
    if not corruptions or not set(corruptions) <= set(CORRUPTIONS):
        raise ValueError(f"`corruptions` must be some of {', '.join(CORRUPTIONS)}; received {tuple(corruptions)}.")
    if not severities or not set(severities) <= set(SEVERITIES):
        raise ValueError(f"`severities` must be some of 1...5; received {tuple(severities)}.")
    with stopwatch() as seconds:
        logits, labels = predict_logits(classifier, batches)
        clean = 1 - top1(logits, labels)
        errors = {}
        for corruption in corruptions:
            found = [
                1 - top1(*predict_logits(classifier, corrupted_batches(batches, corruption, severity, mean, std, seed)))
                for severity in severities
            ]
            errors[f"error_{corruption}"] = float(np.mean(found))
            progress(f"{corruption}: error {errors[f'error_{corruption}']:.4f}")
    return EvaluationResult(
        protocol="corruption_robustness",
        numbers={"clean_error": clean, "mean_corruption_error": float(np.mean(list(errors.values())))} | errors,
        settings={"corruptions": list(corruptions), "severities": list(severities)},
        data={"images": len(labels)},
        seed=seed,
        seconds=seconds(),
    )
