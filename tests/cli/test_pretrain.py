import argparse
import csv
import json
import re
import signal
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_siamim.callbacks.log_schedules import LogSchedules
from keras_siamim.cli import verdict
from keras_siamim.cli.held_out_accuracy import held_out_images
from keras_siamim.cli.pretrain import INTERRUPTED, main
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.sources import IndexedSource, open_source
from keras_siamim.evaluation.baselines import RawPixels
from tests.cli.short_runs import without_observers

TOY = ["encoder.width=24", "encoder.depth=1", "encoder.num_heads=3", "model.decoder_width=16", "model.decoder_heads=2"]


@pytest.fixture
def folder_of_photographs(tmp_path, rng):
    """A folder with the splits train and test, each with two classes of twelve images of two sizes."""
    for split in ("train", "test"):
        for number, name in enumerate(("dark", "light")):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for index in range(12):
                pixels = rng.integers(0, 100, (30, 36 + index % 2, 3)) + 150 * number
                Image.fromarray(pixels.astype("uint8")).save(folder / f"{index}.png")
    return tmp_path / "images"


def check_observations(run, printed, log):
    """Check what the observers print, log and draw in a run of two epochs."""
    names = ("attention", "correspondence", "prediction", "token_pca")
    figures = {f"{name}-{epoch:04d}.png" for name in names for epoch in (1, 2)}
    assert {path.name for path in (run / "figures").iterdir()} == {"curves.png", *figures}
    assert "epoch 2/2 · loss" in printed
    assert {"rank", "same_image", "retrieval"} <= set(log[0])
    assert 0 <= float(log[1]["knn"]) <= 1
    assert 0 <= float(log[1]["probe"]) <= 1


@pytest.mark.slow
def test_a_folder_of_images_becomes_a_run_and_a_saved_model_and_resumes(
    folder_of_photographs, tmp_path, capsys, monkeypatch
):
    # The observers compile for a minute on JAX. `test_bit_identical_training` runs them on every backend.
    observed = keras.config.backend() == "tensorflow"
    if not observed:
        without_observers(monkeypatch)
    runs, exports = tmp_path / "runs", tmp_path / "exports"
    handler = signal.getsignal(signal.SIGINT)  # differs in a process that a shell started in the background
    monkeypatch.chdir(tmp_path)
    arguments = ["--recipe", "digits_tiny", "--data", "images", "--runs", str(runs), "--export", str(exports)]
    assert main([*arguments, "--set", "epochs=2", "warmup_epochs=1", "batch_size=8", *TOY]) == 0
    printed = capsys.readouterr().out
    parts = ["learning rate", "expected loss before learning", "reloaded", "report.html"]
    for part in [*parts, *(["before training", "raw pixels"] if observed else [])]:
        assert part in printed
    run = runs / "digits_tiny" / "1"
    files = {"run.json", "lock", "views.png", "log.csv", "tensorboard", "checkpoints", "model.keras", "encoder.keras"}
    assert {path.name for path in run.iterdir()} == files | {"report.html"} | ({"figures"} if observed else set())
    assert "finished" in (run / "report.html").read_text()
    with open(run / "log.csv") as file:
        log = list(csv.DictReader(file))
    assert len(log) == 2
    assert {"loss", "learning_rate", "target_momentum"} <= set(log[0])
    if observed:
        check_observations(run, printed, log)
    encoder = keras.saving.load_model(run / "encoder.keras")
    assert encoder(np.zeros((1, 28, 28, 3), "float32")).shape == (1, 17, 24)
    assert (exports / "digits_tiny" / "1" / "saved_model.pb").is_file()

    assert main(["--run", str(run)]) == 0
    assert "is finished" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--run", str(run), "--set", "batch_size=4"])
    assert "batch_size is 8 in the run, 4 is requested" in capsys.readouterr().err

    further = ["--run", str(run), "--export", str(exports), "--continue-epochs", "1"]
    # Those of a run that continues are those of the first one.
    without_observers(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(LogSchedules, "on_train_batch_begin", lambda *_, **__: signal.raise_signal(signal.SIGINT))
        assert main(further) == INTERRUPTED
    assert "saved after 7 batches" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is handler
    assert json.loads((run / "run.json").read_text())["data"]["data"] == str(folder_of_photographs)
    assert main(further) == 0
    assert "resumes after 7 batches" in capsys.readouterr().out
    with open(run / "log.csv") as file:
        longer = list(csv.DictReader(file))
    assert longer[:2] == log
    assert len(longer) == 3
    # The third epoch has its own schedule, and half of it is warm-up as in the run.
    assert float(longer[2]["learning_rate"]) == 0
    assert json.loads((run / "run.json").read_text())["results"]["epochs"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "digit_tiny"], "Did you mean 'digits_tiny'"),
        (["--set", "epochs"], "KEY=VALUE"),
        (["--data", "no/such/folder"], "no/such/folder"),
        (["--continue-epochs", "3"], "`--run` must be a finished run"),
        (["--data", ""], "argument --data: must not be empty. Received: ''"),
        (["--set", "base_learning_rate=nan"], "base_learning_rate"),
        (["--set", "optimizer.beta_1=1"], "`optimizer.beta_1` must be a number in"),
        (["--images", "0"], "argument --images: must be a whole number, 1 or more"),
        (["--run", ""], "argument --run: must not be empty. Received: ''"),
        (["--export", ""], "argument --export: must not be empty. Received: ''"),
    ],
)
def test_bad_options_end_before_anything_is_written(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*arguments, "--runs", str(tmp_path / "runs")])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def tree(root, **splits):
    """Write splits of images in the color of their classes; images of class None lie in the folder of the split."""
    colors = {"ant": (200, 0, 0), "Ant": (200, 0, 0), "bee": (0, 200, 0), "cat": (0, 0, 200), None: (9, 9, 9)}
    for split, classes in splits.items():
        for name, count in classes.items():
            folder = root / split / (name or "")
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                Image.new("RGB", (8, 8), colors[name]).save(folder / f"{number}.png")
    return root


TWO = {"ant": 3, "bee": 3}
TREES = {
    "a flat test split": ({"train": TWO, "test": {None: 2}}, None, "has no labels"),
    "a stray image": ({"train": TWO, "test": {"ant": 1, "bee": 1, None: 1}}, None, "has no labels; no labels in"),
    "one class": ({"train": {"ant": 3}, "test": {"ant": 1}}, None, "has no labels"),
    "one class in test": ({"train": TWO, "test": {"bee": 1}}, 1.0, "no images of these classes: ant"),
    "one folder in test that is no class": ({"train": TWO, "test": {"cat": 1}}, None, "has no labels"),
    "more classes in test": ({"train": TWO, "test": {"ant": 1, "bee": 1, "cat": 1}}, None, "test: cat."),
    "renamed classes": ({"train": TWO, "test": {"Ant": 1, "bee": 1}}, None, "test: Ant; only in .*train: ant"),
    "labels in val alone": ({"train": TWO, "test": {None: 2}, "val": {"ant": 1, "bee": 2}}, 1.0, "val takes its place"),
    "no test": ({"train": TWO, "Validation": {"ant": 1, "bee": 2}}, 1.0, ""),
    "no labels anywhere": ({"train": {None: 3}, "test": TWO}, None, "train has no labels"),
    "a first class without test images": (
        {"train": {"ant": 30, "bee": 30, "cat": 30}, "test": {"bee": 2, "cat": 2}},
        1.0,
        "no images of these classes: ant",
    ),
}


@pytest.mark.one_backend
@pytest.mark.parametrize(("splits", "accuracy", "line"), TREES.values(), ids=TREES.keys())
def test_knn_matches_classes_by_name_or_prints_the_reason_in_one_line(tmp_path, capsys, splits, accuracy, line):
    data = str(tree(tmp_path, **splits))
    source = open_source(data)
    held_out = held_out_images(argparse.Namespace(data=data, test_split="test"), source)
    found = measured(source, held_out)
    assert found.get("knn") == found.get("linear") == accuracy
    printed = capsys.readouterr().out
    assert re.search(line, printed)
    assert printed.count("\n") == bool(line)


@pytest.mark.slow
@pytest.mark.one_backend
def test_missing_classes_and_unreadable_test_images_do_not_end_training(tmp_path, capsys, monkeypatch):
    data = tree(tmp_path, train={"ant": 20, "bee": 20, "cat": 1}, test={"ant": 2, "bee": 2, "cat": 2})
    source, held_out = open_source(data), open_source(data, "test")
    with monkeypatch.context() as patch:
        patch.setattr(verdict, "KNN_IMAGES", 5)
        assert 0 <= measured(source, held_out)["knn"] <= 1
    found = measured(source, held_out)
    assert found["knn"] == 1
    assert found["linear"] == 4 / 6  # a class with one training image is not fitted
    (data / "test" / "ant" / "0.png").write_bytes(b"no image")
    found = measured(source, held_out)
    assert "knn" not in found
    assert found["rank"] > 1
    assert "no k-NN accuracy: " in capsys.readouterr().out


@pytest.mark.one_backend
def test_images_with_negative_labels_do_not_count_in_the_accuracy(capsys):
    def labeled(name, *labels):
        columns = {
            "image": tf.constant([np.full((8, 8, 3), 200 * max(label, 0), "uint8") for label in labels]),
            "label": tf.constant(labels),
        }
        read = lambda index: {key: values[index] for key, values in columns.items()}  # noqa: E731
        return IndexedSource(name, len(labels), read, ("dark", "light"), (8, 8))

    train = labeled("train", 0, 1, -1, 0, 1)
    found = measured(train, labeled("test", 1, -1, 0))
    assert found["knn"] == found["linear"] == 1
    assert "knn" not in measured(train, labeled("test", -1, -1))
    assert capsys.readouterr().out == "no k-NN accuracy: no image of a sample has a label\n"


class RawPixels8(RawPixels):
    """Raw pixels of images of 8 x 8 pixels."""

    image_size = (8, 8)


def measured(source, held_out):
    """What the verdict measures of raw pixels."""
    model = SimpleNamespace(encoder=RawPixels8())
    return verdict.measure(model.encoder, verdict.comparison_samples(model, source, held_out, Ledger(), dict))


@pytest.mark.one_backend
@pytest.mark.slow
def test_a_run_resumes_after_its_bad_images_were_removed_or_repaired(
    folder_of_photographs, tmp_path, capsys, monkeypatch
):
    without_observers(monkeypatch)
    train = folder_of_photographs / "train"  # a folder without a test split
    dark = train / "dark"
    good = (dark / "3.png").read_bytes()
    for number in (2, 3):
        (dark / f"{number}.png").write_bytes(b"no image")
    arguments = [
        *("--recipe", "digits_tiny"),
        "--data",
        str(train),
        "--run",
        str(tmp_path / "run"),
        "--export",
        str(tmp_path / "out"),
    ]
    settings = ["--set", "epochs=1", "batch_size=8", *TOY]
    assert main([*arguments, *settings, "--bad-limit", "0.06"]) == 1  # below the share of two bad images
    assert "2 of the 24 images" in (refused := capsys.readouterr().err)
    assert "Repair or remove them" in refused
    (dark / "2.png").unlink()
    (dark / "3.png").write_bytes(good)
    assert main([*arguments, *settings]) == 0
    printed = capsys.readouterr().out
    assert "1 bad images of" in printed
    assert "24 images of" in printed
    reasons = [json.loads(line)["reason"] for line in (tmp_path / "run" / "bad_images.jsonl").read_text().splitlines()]
    assert {"removed since", "repaired since"} <= set(reasons)
