import pytest
from PIL import Image

from training import fit_example, serve_example


@pytest.mark.slow
@pytest.mark.one_backend
def test_the_examples_train_export_and_serve(tmp_path, capsys):
    export = tmp_path / "digits"
    assert fit_example.main(["--steps-per-epoch", "1", "--export", str(export)]) == 0
    assert "k-NN accuracy: " in capsys.readouterr().out
    Image.new("RGB", (40, 40)).save(tmp_path / "image.png")
    assert serve_example.main([str(export / "1"), str(tmp_path / "image.png")]) == 0
    assert f"{tmp_path / 'image.png'}: pooled (96,)" in capsys.readouterr().out
