import numpy as np
import pytest

from keras_siamim.cli.verify import main

# tests/verification replays every file; these tests cover the command.
FILES = ["backbone", "schedules", "positions", "position_interpolation", "blockwise_masks"]


@pytest.mark.parametrize("name", FILES)
def test_reference_values_are_reproduced(name, reference, capsys):
    assert main([str(reference(f"{name}.npz"))]) == 0
    assert "FAIL" not in capsys.readouterr().out


def test_a_difference_fails(reference, tmp_path, capsys):
    with np.load(reference("backbone.npz")) as file:
        changed = {key: file[key] for key in file.files}
    changed["logits"] = changed["logits"] * 1.001
    np.savez(tmp_path / "changed.npz", **changed)
    assert main([str(tmp_path / "changed.npz")]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_a_missing_file_fails_with_a_reason(tmp_path, capsys):
    assert main([str(tmp_path / "missing.npz")]) == 1
    assert "`path` must be an existing recording" in capsys.readouterr().out


@pytest.mark.one_backend
def test_json_is_compared_and_damaged_json_fails_with_one_line(reference, tmp_path, capsys):
    path = reference("dense_coco_eval.json")
    assert main([str(path)]) == 0
    assert "26 of 26 passed" in capsys.readouterr().out
    (tmp_path / "damaged.json").write_text(path.read_text()[:500])
    assert main([str(tmp_path / "damaged.json")]) == 1
    assert capsys.readouterr().out.splitlines()[1].startswith("  The file is damaged: ")


# NumPy leaves a truncated file open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", ["bits", "end", "all"])
def test_a_damaged_file_fails_with_one_line(damage, tmp_path, capsys):
    path = tmp_path / "damaged.npz"
    np.savez(path, values=np.arange(100.0))
    content = bytearray(path.read_bytes())
    if damage == "bits":
        content[len(content) // 2] ^= 1
    path.write_bytes({"bits": content, "end": content[:-30], "all": b""}[damage])
    assert main([str(path)]) == 1
    title, reason = capsys.readouterr().out.splitlines()
    assert str(path) in title
    assert reason.startswith("  The file is damaged: ")
