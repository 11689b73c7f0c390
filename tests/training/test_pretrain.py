import csv
import json

import keras
import numpy as np
import pytest
from PIL import Image

from training.pretrain import main

TOY = ["encoder.width=24", "encoder.depth=1", "encoder.num_heads=3", "model.decoder_width=16", "model.decoder_heads=2"]


@pytest.fixture
def folder_of_photographs(tmp_path, rng):
    """Two classes of six images in a folder tree with both splits."""
    for split in ("train", "test"):
        for number, name in enumerate(("dark", "light")):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for index in range(12):
                pixels = rng.integers(0, 100, (30, 36, 3)) + 150 * number
                Image.fromarray(pixels.astype("uint8")).save(folder / f"{index}.png")
    return tmp_path / "images"


def test_a_folder_of_images_becomes_a_run_and_a_saved_model_and_goes_on(folder_of_photographs, tmp_path, capsys):
    runs, exports = tmp_path / "runs", tmp_path / "exports"
    arguments = ["--data", str(folder_of_photographs), "--runs", str(runs), "--export", str(exports)]
    assert main([*arguments, "--set", "epochs=2", "warmup_epochs=1", "batch_size=8", *TOY]) == 0
    printed = capsys.readouterr().out
    for part in ("learning rate", "expected loss before learning", "before", "after", "loaded back"):
        assert part in printed
    run = runs / "digits_tiny" / "1"
    assert {path.name for path in run.iterdir()} == {
        *("run.json", "lock", "views.png", "log.csv", "tensorboard", "checkpoints", "model.keras", "encoder.keras")
    }
    with open(run / "log.csv") as file:
        log = list(csv.DictReader(file))
    assert len(log) == 2
    assert {"loss", "learning_rate", "target_momentum"} <= set(log[0])
    encoder = keras.saving.load_model(run / "encoder.keras")
    assert encoder(np.zeros((1, 28, 28, 3), "float32")).shape == (1, 17, 24)
    assert (exports / "digits_tiny" / "1" / "saved_model.pb").is_file()

    assert main(["--run", str(run)]) == 0
    assert "is finished" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--run", str(run), "--set", "batch_size=4"])
    assert "batch_size is 8 in the run, 4 is asked for" in capsys.readouterr().err

    assert main(["--run", str(run), "--export", str(exports), "--continue-epochs", "1"]) == 0
    assert "goes on after 6 batches" in capsys.readouterr().out
    with open(run / "log.csv") as file:
        longer = list(csv.DictReader(file))
    assert longer[:2] == log
    assert len(longer) == 3
    # The schedule of the third epoch is one of its own: half of it is warm-up, as in the run.
    assert float(longer[2]["learning_rate"]) == 0
    assert json.loads((run / "run.json").read_text())["results"]["epochs"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "digit_tiny"], "Did you mean 'digits_tiny'"),
        (["--set", "epochs"], "KEY=VALUE"),
        (["--data", "no/such/folder"], "no/such/folder"),
        (["--continue-epochs", "3"], "--run of a finished run"),
    ],
)
def test_bad_options_end_before_anything_is_written(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*arguments, "--runs", str(tmp_path / "runs")])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
