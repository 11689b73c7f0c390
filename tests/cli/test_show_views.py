import pytest
from PIL import Image

from keras_siamim.cli.show_views import main

pytestmark = pytest.mark.one_backend


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "does not exist"),
        (["images", "--recipe", "nothing"], "`name` must be one of"),
        (["images", "--recipe", "mae_vit_base_1600ep"], "--recipe must have two views"),
        (["images", "--pairs", "0"], "--pairs must be 1 or more"),
        (["broken"], "must hold readable images"),
    ],
)
def test_what_can_not_be_shown_ends_in_one_line_and_leaves_no_picture(
    tmp_path, monkeypatch, capsys, arguments, message
):
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
