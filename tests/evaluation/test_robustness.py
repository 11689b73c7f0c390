import json
from pathlib import Path

import numpy as np
import pytest

from keras_siamim.evaluation.robustness import (
    ALEXNET_ERRORS,
    VARIANTS,
    WORDNET_IDS,
    corrupted_batches,
    corruption_robustness,
    imagenet_c,
    imagenet_c_folders,
    imagenet_classes,
    imagenet_variant,
)

pytestmark = pytest.mark.one_backend

RECORDED = json.loads((Path(__file__).parents[1] / "reference" / "imagenet_robustness.json").read_text())


def test_the_shipped_lists_are_the_recorded_ones():
    assert list(WORDNET_IDS) == RECORDED["imagenet_1k_wordnet_ids"]
    assert list(VARIANTS["imagenet_a"]) == RECORDED["imagenet_a_wordnet_ids"]
    assert list(VARIANTS["imagenet_r"]) == RECORDED["imagenet_r_wordnet_ids"]
    assert RECORDED["imagenet_c_alexnet_mean_errors"] == ALEXNET_ERRORS
    assert [len(ids) for ids in VARIANTS.values()] == [200, 200, 1000]


def test_folder_names_map_to_class_indices():
    assert imagenet_classes(["n01440764", WORDNET_IDS[999], WORDNET_IDS[7]]).tolist() == [0, 999, 7]
    with pytest.raises(ValueError, match="Received: \\['dogs'\\]"):
        imagenet_classes(["n01440764", "dogs"])


def test_logits_of_absent_classes_are_ignored():
    inside = imagenet_classes(VARIANTS["imagenet_a"])
    outside = np.setdiff1d(np.arange(1000), inside)[0]
    logits = np.zeros((2, 1000), "float32")
    logits[:, outside] = 9  # would win both images
    logits[[0, 1], inside[:2]] = 5

    result = imagenet_variant(logits, inside[[0, 0]], "imagenet_a")

    assert result.numbers == {"top1": 0.5, "top1_unmasked": 0.0}


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("`variant` must be one of", (np.zeros((1, 1000)), [6], "imagenet_x")),
        ("`logits` must be \\(images, 1000\\)", (np.zeros((1, 200)), [6], "imagenet_a")),
        ("`logits` must be free of NaN", (np.full((1, 1000), np.nan), [6], "imagenet_a")),
        ("among the 200 classes of imagenet_a. Received: \\[0\\]", (np.zeros((1, 1000)), [0], "imagenet_a")),
    ],
)
def test_malformed_arguments_raise(message, arguments):
    with pytest.raises(ValueError, match=message):
        imagenet_variant(*arguments)


def test_alexnet_itself_has_an_mce_of_one_and_half_its_errors_a_half():
    alexnet = {name: [error] * 5 for name, error in ALEXNET_ERRORS.items()}
    spread = {name: error * np.array([0.1, 0.3, 0.5, 0.7, 0.9]) for name, error in ALEXNET_ERRORS.items()}

    assert imagenet_c(alexnet).numbers["mce"] == pytest.approx(1)
    assert imagenet_c(spread).numbers["one_minus_mce"] == pytest.approx(0.5)
    assert imagenet_c(spread).numbers["ce_fog"] == pytest.approx(0.5)


def test_incomplete_errors_raise():
    errors = {name: [0.5] * 5 for name in ALEXNET_ERRORS}
    with pytest.raises(ValueError, match="missing or unknown keys \\['fog'\\]"):
        imagenet_c({name: value for name, value in errors.items() if name != "fog"})
    with pytest.raises(ValueError, match=r"five values in \[0, 1\] per corruption. Received: .* for fog"):
        imagenet_c(errors | {"fog": [50.0] * 5})


@pytest.mark.parametrize("group", ["", "weather"])
def test_the_published_tree_is_found_with_and_without_its_groups(tmp_path, group):
    for corruption in ALEXNET_ERRORS:
        for severity in range(1, 6):
            (tmp_path / group / corruption / str(severity)).mkdir(parents=True)

    folders = imagenet_c_folders(tmp_path)

    assert folders["fog"][4] == tmp_path / group / "fog" / "5"
    (tmp_path / group / "fog" / "5").rmdir()
    with pytest.raises(ValueError, match="fog/1 ... fog/5"):
        imagenet_c_folders(tmp_path)


MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.2, 0.25)


def split(images=12):
    """Return dark and bright images, which a classifier by brightness labels correctly."""
    random = np.random.default_rng(0)
    labels = np.arange(images) % 2
    pixels = 0.25 + 0.4 * labels[:, None, None, None] + random.uniform(-0.1, 0.1, (images, 16, 16, 3))
    normalized = ((pixels - MEAN) / np.array(STD)).astype("float32")
    return [(normalized[i : i + 5], labels[i : i + 5]) for i in range(0, images, 5)]


def by_brightness(images):
    brightness = (images * np.array(STD) + MEAN).mean(axis=(1, 2, 3))
    return np.stack([0.5 - brightness, brightness - 0.5], axis=1)


def test_errors_under_corruption_are_plain_means():
    result = corruption_robustness(by_brightness, split(), MEAN, STD, ["brightness", "pixelate"], seed=1)

    assert result.protocol == "corruption_robustness"
    assert result.numbers["clean_error"] == 0
    assert result.numbers["error_pixelate"] == 0
    assert result.numbers["error_brightness"] > 0.1
    assert result.numbers["mean_corruption_error"] == pytest.approx(result.numbers["error_brightness"] / 2)
    assert "mce" not in result.numbers


def test_the_corruption_of_an_image_is_independent_of_the_batch_size():
    small = list(corrupted_batches(split(), "gaussian_noise", 2, MEAN, STD, seed=3))
    complete = [tuple(np.concatenate(part) for part in zip(*split(), strict=True))]

    (images, labels), *_ = corrupted_batches(complete, "gaussian_noise", 2, MEAN, STD, seed=3)

    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in small]), images)
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in small]), labels)


@pytest.mark.parametrize("settings", [{"corruptions": ["rain"]}, {"severities": [0]}])
def test_unknown_corruptions_and_severities_raise(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        corruption_robustness(by_brightness, split(), MEAN, STD, **settings)
