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


def test_windows_gets_an_error_with_the_supported_systems(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with (tmp_path / "file").open("w") as file, pytest.raises(OSError, match="Linux and macOS only"):
        files.lock(file)
