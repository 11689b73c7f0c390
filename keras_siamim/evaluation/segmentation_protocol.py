"""Shared steps of the frozen protocols of semantic segmentation: standardized patches, their labels, the result."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_siamim.evaluation.exact_probe import channel_scale
from keras_siamim.evaluation.few_shot import held_out_images
from keras_siamim.evaluation.mean_iou import MeanIoU, SegmentationScores
from keras_siamim.evaluation.patch_features import PatchFeatures
from keras_siamim.evaluation.patch_labels import modes, patch_label_maps


class LabeledPatches(NamedTuple):
    """Standardized tokens of patches, and their labels.

    Attributes:
        tokens: (patches, width) float32.
        labels: (patches, pixels per patch) integers.
        classes: (patches,) int64. Most frequent class of each patch; the ignored label if all pixels are ignored.
    """

    tokens: np.ndarray
    labels: np.ndarray
    classes: np.ndarray

    def select(self, chosen: np.ndarray) -> "LabeledPatches":
        """Return the patches where a (patches,) bool array is True."""
        return LabeledPatches(*(values[chosen] for values in self))


class Patches(NamedTuple):
    """Both splits of a frozen protocol, and the held-out part of the train split.

    Attributes:
        train: `LabeledPatches` of all training patches with a label.
        held_out: (training patches,) bool. True for patches of held-out images.
        test: `LabeledPatches` of all test patches.
    """

    train: LabeledPatches
    held_out: np.ndarray
    test: LabeledPatches


def prepare_patches(
    train: PatchFeatures, test: PatchFeatures, num_classes: int, ignore: int, held_out: float, seed: int
) -> Patches:
    """Standardize the tokens of both splits by the train split, and label their patches.

    Args:
        train: `PatchFeatures` with label maps (images, height, width).
        test: `PatchFeatures` with label maps.
        num_classes: Integer. Number of classes.
        ignore: Integer. Label of pixels without a class.
        held_out: Float in (0, 1). Share of the training images that selects settings.
        seed: Integer. Seed of the held-out images.

    Returns:
        `Patches`.

    Raises:
        ValueError: If widths or label maps do not fit, tokens are not finite, or the train split has one class or none.
    """
    for name, split in (("train", train), ("test", test)):
        if not np.isfinite(split.tokens).all():
            raise ValueError(f"`{name}` must hold finite tokens. Received: NaN or infinity.")
    if train.tokens.shape[2] != test.tokens.shape[2]:
        raise ValueError(
            f"`test` must have the width of `train`, {train.tokens.shape[2]}. Received: {test.tokens.shape[2]}."
        )
    mean, scale = channel_scale(train.tokens.reshape(-1, train.tokens.shape[2]))

    def labeled(split):
        tokens = split.tokens.reshape(-1, split.tokens.shape[2])
        labels = patch_label_maps(split.annotations, split.grid)
        standardized = ((tokens - mean.astype("float32")) * scale.astype("float32")).astype("float32")
        return LabeledPatches(standardized, labels, modes(labels, num_classes, ignore))

    bank = labeled(train)
    usable = bank.classes != ignore
    if len(np.unique(bank.classes[usable])) < 2:
        raise ValueError(
            "`train` must hold patches of at least two classes. Received: one class, or ignored pixels only."
        )
    images = held_out_images(len(train.tokens), held_out, seed)
    return Patches(bank.select(usable), np.repeat(images, len(bank.tokens) // len(images))[usable], labeled(test))


def score(
    test: LabeledPatches, predict: Callable[[slice], np.ndarray], num_classes: int, ignore: int
) -> SegmentationScores:
    """Score predictions of patches, some patches at a time.

    Args:
        test: `LabeledPatches`.
        predict: Function from a slice of the patches to their predicted labels, (patches, pixels per patch).
        num_classes: Integer. Number of classes.
        ignore: Integer. Label of pixels without a class.

    Returns:
        `SegmentationScores`.
    """
    metric = MeanIoU(num_classes, ignore)
    for start in range(0, len(test.labels), 4096):
        part = slice(start, start + 4096)
        metric.update(test.labels[part], predict(part))
    return metric.scores()


def describe_patches(patches: Patches, train: PatchFeatures, test: PatchFeatures, num_classes: int) -> dict[str, Any]:
    """Return the `data` entry of an `EvaluationResult`.

    Args:
        patches: `Patches`.
        train: `PatchFeatures` of the train split.
        test: `PatchFeatures` of the test split.
        num_classes: Integer. Number of classes.
    """
    return {
        "train_images": len(train.tokens),
        "test_images": len(test.tokens),
        "classes": num_classes,
        "width": int(train.tokens.shape[2]),
        "grid": list(test.grid),
        "image_size": list(test.annotations.shape[1:]),
        "train_patches": len(patches.train.tokens),
    }


def result_numbers(scores: SegmentationScores, held_out: float, class_names: Sequence[str] = ()) -> Mapping[str, float]:
    """Return the numbers of a result: the means, the held-out mean IoU, and the IoU of each class that occurs.

    Args:
        scores: `SegmentationScores` of the test split.
        held_out: Float. Mean IoU of the selected settings on the held-out images.
        class_names: Sequence of strings. Names of the classes. Defaults to their indices.
    """
    return {**class_numbers(scores, class_names), "miou_held_out": held_out}


def class_numbers(scores: SegmentationScores, class_names: Sequence[str] = ()) -> dict[str, float]:
    """Return the means and the IoU of each class that occurs.

    Args:
        scores: `SegmentationScores`.
        class_names: Sequence of strings. Names of the classes. Defaults to their indices.
    """
    by_class = {f"iou {name}": iou for name, iou in scores.by_class(tuple(class_names)).items() if iou is not None}
    return {**scores.numbers(), **by_class}


def missing_classes(patches: Patches, num_classes: int, class_names: Sequence[str] = ()) -> tuple[str, ...]:
    """Return a note on classes without a training patch, which no prediction can name.

    Args:
        patches: `Patches`.
        num_classes: Integer. Number of classes.
        class_names: Sequence of strings. Names of the classes. Defaults to their indices.
    """
    names = class_names or [str(index) for index in range(num_classes)]
    missing = sorted(set(range(num_classes)) - set(np.unique(patches.train.classes).tolist()))
    if not missing:
        return ()
    return (f"The most frequent class of no training patch: {', '.join(names[index] for index in missing)}.",)
