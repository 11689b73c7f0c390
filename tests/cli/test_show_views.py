import pytest
from PIL import Image

from keras_siamim.cli.show_views import main

pytestmark = pytest.mark.one_backend


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "does not exist"),
        (["images", "--recipe", "nothing"], "`name` must be one of"),
        (["images", "--recipe", "mae_vit_base_1600ep"], "`--recipe` must have two views"),
        (["images", "--pairs", "0"], "argument --pairs: must be a whole number, 1 or more"),
        (["broken"], "must hold readable images"),
    ],
)
def test_errors_are_reported_in_one_line_and_leave_no_figure(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "broken"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (40, 40)).save("images/1.png")
    (tmp_path / "broken" / "1.png").write_bytes(b"no image")
    with pytest.raises(SystemExit):
        main([*arguments, "--out", "views.png"])
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "views.png").exists()


def test_pairs_are_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 40)).save("1.png")
    main([".", "--recipe", "siamese_im_vit_tiny_32px", "--pairs", "1"])
    with Image.open("views.png") as picture:
        assert picture.width > 100
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("1.png", "views.png")] == []


def test_a_failed_write_leaves_the_earlier_figure(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 40)).save("1.png")
    (tmp_path / "views.png").write_bytes(b"earlier")

    def fail(image, file, *_):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(SystemExit):
        main([".", "--recipe", "siamese_im_vit_tiny_32px"])
    assert "no space left" in capsys.readouterr().err
    assert (tmp_path / "views.png").read_bytes() == b"earlier"
    assert {path.name for path in tmp_path.iterdir()} == {"1.png", "views.png"}
