"""`keras-siamim embed` writes features, and tables of similar images."""

import csv

import numpy as np
import pytest
from PIL import Image

from keras_siamim import ViTEncoder
from keras_siamim.cli.embed import main

pytestmark = pytest.mark.one_backend("torch")


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """Options for an encoder and six photographs in two classes, two of them equal."""
    root = tmp_path_factory.mktemp("embed")
    rng = np.random.default_rng(0)
    for index in range(6):
        folder = root / "images" / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        if index != 4:
            Image.fromarray(rng.integers(0, 256, (20, 24, 3)).astype("uint8")).save(folder / f"{index}.png")
    (root / "images/a/4.png").write_bytes((root / "images/a/0.png").read_bytes())
    ViTEncoder(image_size=16, patch_size=8, width=12, depth=1, num_heads=3).save(root / "encoder.keras")
    return ["--encoder", str(root / "encoder.keras"), "--data", str(root / "images")]


@pytest.mark.parametrize("pooling", ["mean", "patches"])
def test_both_formats_hold_the_same_features_with_names_and_classes(pooling, arguments, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    paths = [tmp_path / "features.npz", tmp_path / "features.parquet"]
    for path in paths:
        assert main([*arguments, "--pooling", pooling, "--output", str(path)]) == 0
    with np.load(paths[0]) as stored:
        columns = dict(stored)
    assert columns["features"].shape == ((6, 4, 12) if pooling == "patches" else (6, 12))
    table = parquet.read_table(paths[1])
    np.testing.assert_array_equal(table["features"].to_pylist(), columns["features"].reshape(6, -1))
    assert table["name"].to_pylist() == columns["names"].tolist()
    assert table["class_name"].to_pylist() == ["a"] * 3 + ["b"] * 3
    assert [name.rsplit("/", 1)[1] for name in columns["names"]] == [f"{i}.png" for i in (0, 2, 4, 1, 3, 5)]


def test_tables_and_figures_of_similar_images(arguments, tmp_path):
    tables = ["--neighbors", str(tmp_path / "neighbors.csv"), "--duplicates", str(tmp_path / "duplicates.csv")]
    assert main([*arguments, *tables]) == 0
    with open(tmp_path / "duplicates.csv") as file:
        (pair,) = csv.DictReader(file)
    assert [pair[column].rsplit("/", 1)[1] for column in ("image", "duplicate")] == ["0.png", "4.png"]
    assert float(pair["similarity"]) == pytest.approx(1, abs=1e-4)
    with open(tmp_path / "neighbors.csv") as file:
        rows = list(csv.DictReader(file))
    mean = [float(row["mean_similarity"]) for row in rows]
    assert mean == sorted(mean)
    assert {row["image"] for row in rows if row["neighbor_1"].endswith("a/0.png")} >= {pair["duplicate"]}
    for name in ("neighbors", "duplicates"):
        with Image.open(tmp_path / f"{name}.png") as figure:
            assert figure.width > 200


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([], "one or more of --output, --neighbors, --duplicates must be given"),
        (["--output", "features.csv"], "`--output` must be a new .npz or .parquet file.*Received: features.csv"),
        (["--neighbors", "a.csv", "--duplicates", "./a.csv"], "--neighbors, --duplicates must be different files"),
        (["--duplicates", "pairs.txt"], "`--duplicates` must be a new .csv file"),
    ],
)
def test_wrong_outputs_are_refused_before_anything_is_read(outputs, message):
    with pytest.raises(ValueError, match=message):
        main(["--encoder", "none.keras", "--data", "nowhere", *outputs])
