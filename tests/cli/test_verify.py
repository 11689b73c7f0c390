import pytest

from keras_siamim.cli.verify import main

# Every recording is replayed by tests/recordings; here the command is at stake.
FILES = ["backbone", "schedules", "positions", "position_interpolation", "blockwise_masks"]


@pytest.mark.parametrize("name", FILES)
def test_we_fall_on_the_recorded_numbers(name, reference, capsys):
    assert main([str(reference(f"{name}.npz"))]) == 0
    assert "FAIL" not in capsys.readouterr().out


def test_a_difference_fails(reference, tmp_path, capsys):
    import numpy as np

    with np.load(reference("backbone.npz")) as file:
        changed = {key: file[key] for key in file.files}
    changed["logits"] = changed["logits"] * 1.001
    np.savez(tmp_path / "changed.npz", **changed)
    assert main([str(tmp_path / "changed.npz")]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_what_is_no_recording_fails_with_a_reason(tmp_path, capsys):
    assert main([str(tmp_path / "missing.npz")]) == 1
    assert "`path` must be an existing recording" in capsys.readouterr().out
