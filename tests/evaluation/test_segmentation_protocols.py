"""k-NN and logistic segmentation against literal definitions."""

import collections

import numpy as np
import pytest

from keras_siamim.evaluation import knn_segmentation, logistic_segmentation
from keras_siamim.evaluation.few_shot import held_out_images
from keras_siamim.evaluation.knn_segmentation import vote_per_pixel
from keras_siamim.evaluation.patch_features import PatchFeatures
from keras_siamim.evaluation.patch_labels import modes, patch_label_maps

pytestmark = pytest.mark.one_backend

CLASSES, PATCH, GRID = 3, 2, (2, 3)


def split(rng, images, noise=0.3):
    """Tokens near a center per class; label maps with some other and some ignored pixels."""
    centers = np.eye(CLASSES, 4)
    classes = rng.integers(0, CLASSES, (images, *GRID))
    tokens = (centers[classes] + noise * rng.normal(size=(images, *GRID, 4))).astype("float32")
    maps = np.repeat(np.repeat(classes, PATCH, axis=1), PATCH, axis=2).astype("uint8")
    changed = rng.random(maps.shape)
    maps = np.where(changed < 0.1, rng.integers(0, CLASSES, maps.shape), np.where(changed > 0.9, 255, maps))
    return PatchFeatures(tokens.reshape(images, -1, 4), GRID, maps.astype("uint8"))


def mode(values):
    counts = collections.Counter(value for value in values if value != 255)
    return min(counts, key=lambda value: (-counts[value], value)) if counts else 255


def literal_knn(train, test, k, metric):
    """Predicted label maps of all test patches, by loops."""
    flat = train.tokens.reshape(-1, 4).astype("float64")
    mean, deviation = flat.mean(0), flat.std(0)
    labels = patch_label_maps(train.annotations, GRID)
    classes = np.array([mode(row) for row in labels])
    bank, labels, classes = ((flat - mean) / deviation)[classes != 255], labels[classes != 255], classes[classes != 255]
    predictions = []
    for query in (test.tokens.reshape(-1, 4) - mean) / deviation:
        cosines = bank @ query / np.linalg.norm(bank, axis=1)
        distances = ((bank - query) ** 2).sum(1) if metric == "l2" else -cosines
        nearest = np.argsort(distances, kind="stable")[:k]
        votes = [mode(labels[nearest, pixel]) for pixel in range(labels.shape[1])]
        predictions.append([classes[nearest[0]] if vote == 255 else vote for vote in votes])
    return np.array(predictions)


def literal_miou(predictions, test):
    labels = patch_label_maps(test.annotations, GRID)
    ious = []
    for index in range(CLASSES):
        counted = labels != 255
        both = ((predictions == index) & (labels == index)).sum()
        either = (((predictions == index) | (labels == index)) & counted).sum()
        ious.append(both / either)
    return np.mean(ious)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_knn_is_its_definition(metric, k, rng):
    train, test = split(rng, 12), split(rng, 5)
    result = knn_segmentation(train, test, CLASSES, k=(k,), metrics=(metric,))
    assert result.numbers["miou"] == pytest.approx(literal_miou(literal_knn(train, test, k, metric), test))


def test_settings_are_selected_on_held_out_training_images(rng):
    train, test = split(rng, 20, noise=0.6), split(rng, 5, noise=0.6)
    chosen = held_out_images(20, 0.25, seed=3)
    assert chosen.sum() == 5
    tried = {
        (metric, k): knn_segmentation(train, test, CLASSES, k=(k,), metrics=(metric,), held_out=0.25, seed=3)
        for metric in ("cosine", "l2")
        for k in (1, 3, 10)
    }
    result = knn_segmentation(train, test, CLASSES, k=(1, 3, 10), held_out=0.25, seed=3)
    selected = tried[result.settings["metric"], result.settings["k"]]
    assert result.numbers == selected.numbers
    assert result.numbers["miou_held_out"] == max(each.numbers["miou_held_out"] for each in tried.values())


def test_logistic_regression_predicts_one_class_per_patch(rng):
    train, test = split(rng, 30), split(rng, 6)
    result = logistic_segmentation(train, test, CLASSES, inverse_penalties=(1e-2, 1.0))
    assert result.settings["inverse_penalty"] in (1e-2, 1.0)
    assert 0.6 < result.numbers["miou"] <= 1
    assert {"iou 0", "iou 1", "iou 2"} <= set(result.numbers)


@pytest.mark.parametrize("protocol", [knn_segmentation, logistic_segmentation])
def test_missing_classes_are_noted_and_unlabeled_splits_refused(protocol, rng):
    train, test = split(rng, 12), split(rng, 4)
    train = train._replace(annotations=np.where(train.annotations == 2, 255, train.annotations).astype("uint8"))
    result = protocol(train, test, CLASSES, class_names=("road", "sky", "tree"))
    assert result.numbers["iou tree"] == 0
    assert "tree" in result.notes[0]
    with pytest.raises(ValueError, match="two classes. Received: one class, or ignored pixels only"):
        protocol(train._replace(annotations=np.full_like(train.annotations, 255)), test, CLASSES)
    with pytest.raises(ValueError, match=r"`labels` must be in \[0, 3\) or 255. Received: 9"):
        protocol(train._replace(annotations=np.full_like(train.annotations, 9)), test, CLASSES)
    with pytest.raises(ValueError, match="`label_maps` must be"):
        protocol(train._replace(annotations=train.annotations[..., None]), test, CLASSES)
    with pytest.raises(ValueError, match="`test` must have the width of `train`"):
        protocol(train, test._replace(tokens=test.tokens[..., :2]), CLASSES)


def test_modes_and_votes_break_ties_by_the_smallest_class():
    assert modes(np.array([[2, 1, 255, 255], [255] * 4, [0, 2, 2, 1]]), 3).tolist() == [1, 255, 2]
    labels = np.array([[[2, 255], [1, 255], [1, 0]]])
    votes = vote_per_pixel(labels, np.array([2]), (1, 2, 3), 3)
    assert [vote.tolist() for vote in votes] == [[[2, 2]], [[1, 2]], [[1, 0]]]
