import shlex

import pytest
from PIL import Image

from keras_siamim.cli import doctor
from keras_siamim.cli.main import main
from keras_siamim.cli.pretrain import build_parser
from keras_siamim.cli.run_folder import describe_run

pytestmark = pytest.mark.one_backend


@pytest.fixture
def folder(tmp_path, rng):
    """Long images, one of them twice, and an unreadable one."""
    for index in range(6):
        pixels = rng.integers(0, 256, (60, 150, 3)).astype("uint8")
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    (tmp_path / "again.png").write_bytes((tmp_path / "0.png").read_bytes())
    (tmp_path / "empty.jpg").touch()
    return tmp_path


def test_doctor_prints_what_it_finds_and_chooses_and_a_command_that_pretrain_accepts(folder, capsys):
    assert main(["doctor", "--data", str(folder)]) == 0
    printed = capsys.readouterr().out
    for part in ("8 of", "150 x 60", "empty file", "0.png = ", "100% wide", "too few", "are long", "--bad-limit"):
        assert part in printed, part
    for name in ("recipe", "image size", "patch size", "epochs", "batch size", "memory", "time"):
        assert f"\n  {name}" in printed
    program, command, *arguments = shlex.split(printed.splitlines()[-1])
    assert (program, command) == ("keras-siamim", "pretrain")
    described, source = describe_run(build_parser().parse_args(arguments))
    assert described["recipe"]["image_size"] == 64
    assert source.size == 8


def test_a_sample_stands_for_all_images_of_the_source(folder):
    found = doctor.look(doctor.open_source(str(folder)), 6)
    assert found.readable + len(found.unreadable) == 6
    assert doctor.choice_for(found, images=50_000).changes.get("epochs", 14) in range(14, 30)


def test_without_a_readable_image_nothing_is_chosen(tmp_path, capsys):
    (tmp_path / "a.png").touch()
    assert main(["doctor", "--data", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "empty file" in printed
    assert "chosen" not in printed


def test_pretrain_without_a_recipe_has_that_of_doctor_except_for_the_values_of_the_user(folder, capsys):
    options = build_parser().parse_args(["--data", str(folder), "--set", "epochs=3", "batch_size=6"])
    described, _ = describe_run(options)
    printed = capsys.readouterr().out
    assert "chosen for" in printed
    assert described["name"] == "siamese_im_vit_mini_32px"
    assert [described["recipe"][name] for name in ("image_size", "epochs", "batch_size")] == [64, 3, 6]
    options = build_parser().parse_args(["--data", str(folder)])
    assert describe_run(options, chooses=False)[0]["name"] == "digits_tiny"
    options = build_parser().parse_args(["--data", str(folder), "--recipe", "siamese_im_vit_tiny_32px"])
    assert describe_run(options)[0]["recipe"]["epochs"] == 200
    assert capsys.readouterr().out == ""
