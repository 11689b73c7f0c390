import numpy as np
import pytest
from sklearn.linear_model import Ridge

from keras_siamim.evaluation import ridge
from keras_siamim.evaluation.box_localization import box_localization
from keras_siamim.evaluation.boxes import box_iou
from keras_siamim.evaluation.ridge import fit_ridge

pytestmark = pytest.mark.one_backend


@pytest.mark.parametrize("shape", [(40, 7), (12, 30)])
@pytest.mark.parametrize("chunk", [1 << 23, 50])
def test_both_forms_equal_scikit_learn_for_any_chunks(rng, monkeypatch, shape, chunk):
    monkeypatch.setattr(ridge, "_VALUES_PER_CHUNK", chunk)
    inputs, targets, scale = 5 + rng.normal(size=shape), rng.normal(size=(shape[0], 3)), rng.uniform(0.5, 2, shape[1])

    fits = fit_ridge(inputs, targets, [0.1, 1e-3], scale)

    for penalty, linear in zip([0.1, 1e-3], fits, strict=True):
        theirs = Ridge(alpha=penalty * shape[0]).fit(inputs * scale, targets)
        np.testing.assert_allclose(linear(inputs), theirs.predict(inputs * scale), atol=1e-8)


def test_a_matrix_that_is_too_large_is_refused(rng, monkeypatch):
    monkeypatch.setattr(ridge, "MAX_SIDE", 5)
    with pytest.raises(ValueError, match="at most 5 rows or columns"):
        fit_ridge(rng.normal(size=(6, 7)), rng.normal(size=(6, 4)), [1.0], np.ones(7))


def split_of(images, seed, patches=6, width=4):
    """Tokens from which the boxes follow by a noisy linear map."""
    random = np.random.default_rng(seed)
    low = random.uniform(0, 0.4, (images, 2))
    boxes = np.concatenate([low, low + random.uniform(0.2, 0.6, (images, 2))], axis=1)
    maps = np.random.default_rng(99).normal(size=(4, patches * width))
    tokens = boxes @ maps + 0.05 * random.normal(size=(images, patches * width))
    channels = np.array([1.0, 10.0, 0.1, 1.0])[:width]
    return (tokens.reshape(images, patches, width) * channels + 3).astype("float32"), boxes


TRAIN, TEST = split_of(120, 1), split_of(50, 2)


def test_boxes_are_regressed_from_tokens_and_beat_the_constant_box():
    result = box_localization(*TRAIN, *TEST)

    constant = np.array(
        [*(TRAIN[1][:, :2] + TRAIN[1][:, 2:]).mean(axis=0) / 2, *(TRAIN[1][:, 2:] - TRAIN[1][:, :2]).mean(axis=0)]
    )
    corners = np.concatenate([constant[:2] - constant[2:] / 2, constant[:2] + constant[2:] / 2])
    overlaps = np.array([box_iou(corners, box) for box in TEST[1]])
    assert result.numbers["constant_mean_iou"] == pytest.approx(overlaps.mean())
    assert result.numbers["constant_share_iou_50"] == pytest.approx((overlaps >= 0.5).mean())
    assert result.numbers["mean_iou"] > 0.8 > overlaps.mean() + 0.1
    assert result.numbers["share_iou_50"] == 1.0
    assert result.data == {"train_images": 120, "test_images": 50, "patches": 6, "width": 4}


def test_the_regression_is_ridge_on_tokens_that_are_standardized_per_channel():
    result = box_localization(*TRAIN, *TEST, penalties=[1e-2])

    mean, deviation = (function(TRAIN[0].astype("float64"), axis=(0, 1)) for function in (np.mean, np.std))
    inputs, others = (
        ((tokens - mean) / deviation).reshape(len(tokens), -1) / np.sqrt(24) for tokens in (TRAIN[0], TEST[0])
    )
    low, high = np.split(TRAIN[1], 2, axis=1)
    theirs = Ridge(alpha=1e-2 * 120).fit(inputs, np.concatenate([(low + high) / 2, high - low], axis=1)).predict(others)
    corners = np.concatenate([theirs[:, :2] - theirs[:, 2:] / 2, theirs[:, :2] + theirs[:, 2:] / 2], axis=1)
    assert result.numbers["mean_iou"] == pytest.approx(box_iou(np.clip(corners, 0, 1), TEST[1]).mean(), abs=1e-6)


def test_the_penalty_is_selected_without_the_test_split():
    usual = box_localization(*TRAIN, *TEST).numbers
    rolled = box_localization(*TRAIN, TEST[0], np.roll(TEST[1], 1, axis=0)).numbers

    assert rolled["mean_iou"] < usual["mean_iou"]
    for key in ("penalty", "mean_iou_held_out"):
        assert rolled[key] == usual[key]


def test_a_projection_to_all_channels_is_a_rotation_that_changes_nothing():
    usual = box_localization(*TRAIN, *TEST, penalties=[1e-2])
    rotated = box_localization(*TRAIN, *TEST, penalties=[1e-2], channels=4)

    assert rotated.numbers["mean_iou"] == pytest.approx(usual.numbers["mean_iou"], abs=1e-5)


def test_a_projection_keeps_the_channels_of_the_largest_variance():
    # Three equal channels of information are one component, and the fourth channel is noise of its own.
    tokens = [np.repeat(tokens[..., :1], 3, axis=2) for tokens in (TRAIN[0], TEST[0])]
    noise = np.random.default_rng(3).normal(size=(120, 6, 1))

    reduced = box_localization(
        np.concatenate([tokens[0], noise], axis=2),
        TRAIN[1],
        np.concatenate([tokens[1], noise[:50]], axis=2),
        TEST[1],
        penalties=[1e-2],
        channels=1,
    )

    # The component is the sum of three standardized channels, and the inputs are divided by sqrt(6).
    alone = box_localization(tokens[0][..., :1], TRAIN[1], tokens[1][..., :1], TEST[1], penalties=[1e-2 / 3])
    assert reduced.numbers["mean_iou"] == pytest.approx(alone.numbers["mean_iou"], abs=0.01)


def test_channels_without_variance_are_dropped():
    tokens = [np.concatenate([split[0], np.full_like(split[0][..., :1], 7)], axis=2) for split in (TRAIN, TEST)]

    with_constant = box_localization(tokens[0], TRAIN[1], tokens[1], TEST[1], penalties=[1e-2 * 24 / 30])

    usual = box_localization(*TRAIN, *TEST, penalties=[1e-2])
    assert with_constant.numbers["mean_iou"] == pytest.approx(usual.numbers["mean_iou"], abs=1e-6)


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("`train_tokens` must be a non-empty", {"train_tokens": TRAIN[0][0]}),
        ("`train_boxes` must have one box per image, 120", {"train_boxes": TRAIN[1][:5]}),
        ("`test_boxes` must be relative to the image", {"test_boxes": 64 * TEST[1]}),
        ("`test_boxes` must be finite with x1 < x2", {"test_boxes": TEST[1][:, [2, 3, 0, 1]]}),
        ("`test_tokens` must have the patches and width of `train_tokens`", {"test_tokens": TEST[0][:, :3]}),
        ("`penalties` must be one or more values above 0", {"penalties": [0.0]}),
        ("`channels` must be in \\[1, 4\\]", {"channels": 5}),
        ("`held_out` must be in \\(0, 1\\)", {"held_out": 0.0}),
        ("`train_tokens` must hold at least two images", {"train_tokens": TRAIN[0][:1], "train_boxes": TRAIN[1][:1]}),
    ],
)
def test_malformed_arguments_are_refused(message, changes):
    good = {"train_tokens": TRAIN[0], "train_boxes": TRAIN[1], "test_tokens": TEST[0], "test_boxes": TEST[1]}
    with pytest.raises(ValueError, match=message):
        box_localization(**{**good, **changes})
