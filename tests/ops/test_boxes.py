import numpy as np
import pytest
from keras import ops

from keras_siamim.ops.boxes import box_levels, decode_boxes, encode_boxes
from keras_siamim.ops.matching import match_boxes, sample_boxes
from keras_siamim.ops.nms import non_max_suppression
from keras_siamim.verification.program import run_compiled


def random_boxes(rng, *shape):
    corners = rng.uniform(0, 100, (*shape, 2))
    return np.concatenate([corners, corners + rng.uniform(4, 40, (*shape, 2))], axis=-1).astype("float32")


def greedy(boxes, scores, threshold, groups, valid):
    """The definition of non-maximum suppression, box by box."""
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        low = np.maximum(boxes[index, :2], boxes[kept, :2])
        shared = np.prod(np.maximum(np.minimum(boxes[index, 2:], boxes[kept, 2:]) - low, 0), axis=-1)
        areas = np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1)
        hit = shared / (areas[index] + areas[kept] - shared) > threshold
        if valid[index] and not np.any(hit & (groups[index] == groups[kept])):
            kept.append(index)
    return kept


def test_suppression_compiled_equals_the_greedy_algorithm(rng):
    # Three tiles, many ties of scores, and fewer outputs than survivors in the last image.
    boxes = random_boxes(rng, 3, 600)
    scores = rng.integers(0, 50, (3, 600)).astype("float32")
    groups, valid = rng.integers(0, 3, (3, 600)).astype("int32"), rng.random((3, 600)) < 0.8
    boxes[1, :300] = boxes[1, 300:]
    valid[0, 20:] = False

    def select(x):
        found = non_max_suppression(x["boxes"], x["scores"], 0.4, 100, x["groups"], x["valid"])
        return dict(zip(("indices", "counts"), found, strict=True))

    found = run_compiled(select, {"boxes": boxes, "scores": scores, "groups": groups, "valid": valid})
    for image in range(3):
        expected = greedy(boxes[image], scores[image], 0.4, groups[image], valid[image])[:100]
        assert found["counts"][image] == len(expected)
        assert found["indices"][image].tolist() == expected + [0] * (100 - len(expected))
    assert found["counts"].tolist()[1:] == [100, 100]
    assert found["counts"][0] < 20


@pytest.mark.one_backend
def test_coding_is_inverted_and_growth_is_limited(rng):
    boxes, targets = random_boxes(rng, 20), random_boxes(rng, 20)
    weights = (10.0, 10.0, 5.0, 5.0)
    decoded = decode_boxes(boxes, encode_boxes(boxes, targets, weights), weights)
    np.testing.assert_allclose(decoded, targets, atol=1e-4)
    grown = ops.convert_to_numpy(decode_boxes(np.float32([0, 0, 16, 16]), np.float32([0, 0, 99, 99]), (1, 1, 1, 1)))
    np.testing.assert_allclose(grown[2:] - grown[:2], 1000, rtol=1e-5)


@pytest.mark.one_backend
def test_levels_change_exactly_at_powers_of_two():
    sides = np.float32([55, 111.99, 112, 223.99, 224, 448, 2000])
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=-1)
    assert ops.convert_to_numpy(box_levels(boxes, num_levels=4)).tolist() == [0, 0, 1, 1, 2, 3, 3]


@pytest.mark.one_backend
def test_padding_is_never_matched():
    iou = np.float32([[0.2, 0.6], [0.9, 0.9]])
    matches, labels = match_boxes(iou, np.array([True, False]), (0.5, 0.5), with_best=True)
    assert ops.convert_to_numpy(matches).tolist() == [0, 0]
    assert ops.convert_to_numpy(labels).tolist() == [0, 1]


@pytest.mark.one_backend
def test_samples_are_uniform_and_put_positives_first(rng):
    labels = np.tile(np.repeat([1, 0, -1], [4, 20, 6]), (200, 1))
    sample = sample_boxes(labels, rng.random(labels.shape), count=6, positive_fraction=0.5)
    indices, positive, valid = (ops.convert_to_numpy(x) for x in sample)
    assert valid.all()
    assert (positive == [True] * 3 + [False] * 3).all()
    assert all(len(set(row)) == 6 for row in indices)
    shares = np.bincount(indices.ravel(), minlength=30) / 200
    np.testing.assert_allclose(shares[:4], 3 / 4, atol=0.15)
    np.testing.assert_allclose(shares[4:24], 3 / 20, atol=0.15)
    assert not shares[24:].any()


@pytest.mark.one_backend
def test_too_few_boxes_leave_invalid_entries():
    sample = sample_boxes(np.array([[0, 1, -1, -1]]), np.full((1, 4), 0.5), count=3, positive_fraction=0.5)
    indices, positive, valid = (ops.convert_to_numpy(x)[0] for x in sample)
    assert valid.tolist() == [True, True, False]
    assert positive.tolist() == [True, False, False]
    assert indices[:2].tolist() == [1, 0]
