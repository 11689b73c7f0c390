import sys

import pytest

from keras_siamim import files

pytestmark = pytest.mark.one_backend


def test_a_lock_is_exclusive_until_its_file_is_closed(tmp_path):
    path = tmp_path / "file"
    with path.open("w") as first, path.open("w") as second:
        files.lock(first)
        with pytest.raises(BlockingIOError):
            files.lock(second, wait=False)
        first.close()
        files.lock(second, wait=False)


def test_locking_on_windows_names_the_supported_systems(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with (tmp_path / "file").open("w") as file, pytest.raises(OSError, match="Linux and macOS only"):
        files.lock(file)


def test_a_failed_write_keeps_the_old_content(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(TypeError), files.write_atomically(path) as file:
        file.writelines([b"half", None])
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_readers_see_the_old_content_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with files.write_atomically(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_function_that_writes_to_a_path_keeps_the_old_content_when_it_fails(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("old")

    def save(staging):
        assert staging.suffix == ".keras"
        staging.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), files.replace_atomically(path) as staging:
        save(staging)
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
