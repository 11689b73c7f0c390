"""Tests of `evaluate` and `finetune` on a folder of image files with a toy ViT."""

import functools
import json
import shutil
from pathlib import Path

import keras
import pytest

from keras_siamim import ViTEncoder
from keras_siamim.cli import evaluate, finetune
from keras_siamim.cli.labeled_batches import cropped_epochs, open_for_classifier, open_labeled_pair
from keras_siamim.evaluation.linear_probe import linear_probe
from tests.evaluation.stand_in import write_images

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.usefixtures("batches_in_memory")]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with `data/{train,test}/{a,b,c}/*.png` and `run/encoder.keras`."""
    root = tmp_path_factory.mktemp("evaluate")
    write_images(root / "data", train=(36, 1), test=(14, 2))
    keras.utils.set_random_seed(0)
    (root / "run").mkdir()
    ViTEncoder(image_size=8, patch_size=4, width=8, depth=2, num_heads=2).save(root / "run" / "encoder.keras")
    return root


def run_evaluate(root, *more):
    arguments = ["--data", str(root / "data"), "--cache", str(root / "cache"), "--batch-size", "16", "--resize", "8"]
    evaluate.main([*arguments, "--output", str(root / "out"), *more])
    return json.loads((root / "out" / "evaluation.json").read_text())


@pytest.mark.slow
@pytest.mark.one_backend
def test_evaluate_reports_two_baselines_and_reads_features_from_the_cache(root, capsys):
    arguments = ("--encoder", str(root / "run"), "--protocols", "knn,few_shot,health", "--shots", "3")

    first = run_evaluate(root, *arguments)
    files = {path: path.stat().st_mtime_ns for path in (root / "cache").rglob("*.npz")}
    again = run_evaluate(root, *arguments)

    assert list(first["rows"]) == ["raw pixels", "random initialization", "run"]
    assert all("alignment" in results[-1]["numbers"] for results in first["rows"].values())
    for name, results in first["rows"].items():
        assert [r["protocol"] for r in results] == ["knn", "few_shot", "health"]
        assert [r["numbers"] for r in results] == [r["numbers"] for r in again["rows"][name]]
    assert files == {path: path.stat().st_mtime_ns for path in (root / "cache").rglob("*.npz")}
    assert "| raw pixels |" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.one_backend
def test_evaluate_trains_the_papers_probe_on_random_crops(root, monkeypatch):
    monkeypatch.setattr(evaluate, "linear_probe", functools.partial(linear_probe, epochs=2, warmup_epochs=1))

    options = ("--encoder", str(root / "run"), "--protocols", "lars_augmented", "--no-baselines")
    (result,) = run_evaluate(root, *options)["rows"]["run"]

    assert result["protocol"] == "linear_probe"
    assert result["numbers"]["train_loss"] > 0


def test_a_list_fixes_the_labeled_images_of_few_shot(root):
    files = [min((root / "data" / "train" / name).iterdir()).relative_to(root / "data" / "train") for name in "abc"]
    (root / "list.txt").write_text("\n".join(map(str, files)))

    options = ("--encoder", str(root / "run"), "--protocols", "few_shot", "--no-baselines", "--shots", "3")
    drawn, listed = run_evaluate(root, *options, "--shots-list", str(root / "list.txt"), "--penalty", "0.01")["rows"][
        "run"
    ]

    assert (drawn["data"]["labeled_images"], listed["data"]["labeled_images"]) == (9, 3)
    assert listed["settings"] == {"fraction": None, "per_class": None, "penalty": 0.01, "num_subsets": 1}


@pytest.mark.slow
@pytest.mark.one_backend
def test_finetune_saves_a_classifier_whose_robustness_can_be_measured(root):
    options = ["--encoder", str(root / "run"), "--data", str(root / "data"), "--output", str(root / "tuned")]
    finetune.main([*options, "--epochs", "2", "--warmup-epochs", "1", "--batch-size", "12", "--resize", "8"])

    found = run_evaluate(
        root,
        "--classifier",
        str(root / "tuned" / "classifier.keras"),
        "--protocols",
        "corruption",
        "--max-images",
        "4",
    )

    assert json.loads((root / "tuned" / "evaluation.json").read_text())["rows"]["run"][0]["protocol"] == "fine_tuning"
    numbers = found["rows"]["classifier"][0]["numbers"]
    assert 0 <= numbers["mean_corruption_error"] <= 1
    assert len(numbers) == 2 + 15


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("`--protocols` must be some of knn", ("--encoder", "x", "--protocols", "nearest")),
        ("`--protocols` must be all for encoders", ("--encoder", "x", "--protocols", "knn,corruption")),
        ("`--encoder` must be given", ("--protocols", "knn")),
        ("`--classifier` must be given", ("--protocols", "imagenet_a")),
        ("`path` must exist", ("--encoder", "nothing", "--protocols", "knn")),
    ],
)
def test_invalid_options_are_refused(root, message, arguments):
    with pytest.raises(ValueError, match=message):
        run_evaluate(root, *arguments)


@pytest.mark.one_backend
@pytest.mark.parametrize("program", [evaluate, finetune])
def test_classes_that_training_lacks_are_refused_by_name(root, tmp_path, program):
    shutil.copytree(root / "data", tmp_path / "data")
    (tmp_path / "data" / "test" / "b").rename(tmp_path / "data" / "test" / "B")
    options = ["--encoder", str(root / "run"), "--data", str(tmp_path / "data"), "--output", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="among those of .*train. Received: only in .*test: B; only in .*train: b"):
        program.main([*options, "--batch-size", "12"])
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.one_backend
def test_a_class_without_test_images_changes_no_other_class(root, tmp_path, capsys):
    shutil.copytree(root / "data" / "test", tmp_path / "data" / "train")
    shutil.copytree(root / "data" / "test", tmp_path / "data" / "test")
    shutil.rmtree(tmp_path / "data" / "test" / "a")
    options = ["--encoder", str(root / "run"), "--data", str(tmp_path / "data"), "--output", str(tmp_path / "out")]
    options += ["--protocols", "knn", "--resize", "8", "--no-baselines", "--cache", str(tmp_path / "cache")]
    evaluate.main(options)
    assert "has no images of these classes: a" in capsys.readouterr().out
    (result,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["rows"]["run"]
    assert result["numbers"]["top1_k10"] > 0.3


@pytest.mark.one_backend
def test_a_classifier_is_tested_with_the_class_indices_of_its_training_split(root, tmp_path):
    shutil.copytree(root / "data", tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "test" / "a")
    numbers = {"a": 0, "b": 1, "c": 2}
    test = open_for_classifier(tmp_path / "data", "train", "test", 3)
    for example in test.examples(0, 0, False).as_numpy_iterator():
        assert example["label"] == numbers[Path(test.locate(example["index"])).parent.name]
    with pytest.raises(ValueError, match="train must have the 4 classes of the classifier. Received: 3 classes: a, b"):
        open_for_classifier(tmp_path / "data", "train", "test", 4)
    shutil.rmtree(tmp_path / "data" / "train")
    with pytest.raises(ValueError, match="test must have the 3 classes of the classifier. Received: 2 classes: b, c"):
        open_for_classifier(tmp_path / "data", "train", "test", 3)


@pytest.mark.slow
@pytest.mark.one_backend
def test_a_sample_of_the_training_images_is_reshuffled_every_epoch(root):
    train, _ = open_labeled_pair(root / "data", "train", "test", max_train=12)
    epochs = cropped_epochs(train, (8, 8), 12, seed=0)
    (_, first), (_, second) = epochs[0], epochs[1]
    assert sorted(first) == sorted(second)
    assert list(first) != list(second)
