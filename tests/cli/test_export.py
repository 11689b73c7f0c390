import pytest

from keras_siamim import ViTEncoder
from keras_siamim.cli.export import main


@pytest.mark.one_backend("tensorflow")
def test_an_unwritable_directory_fails_with_one_line(tmp_path, capsys):
    ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2).save(tmp_path / "encoder.keras")
    # A file in place of the parent directory, which no user can write below.
    (tmp_path / "file").write_bytes(b"")
    assert main([str(tmp_path), "--to", str(tmp_path / "file" / "model")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "file") in line
