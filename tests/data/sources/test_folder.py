"""Folders as users have them: links, splits with various names, and files other than images."""

import os
import pathlib
import subprocess
import sys
import tempfile

import pytest
from PIL import Image

from keras_siamim.data import sources

pytestmark = pytest.mark.one_backend

FIND = """
import os, sys
sys.path.insert(0, sys.argv[2])
from keras_siamim.data.sources.folder import find_images
os.getuid() or os.setuid(65534)
try:
    find_images(sys.argv[1])
except ValueError as error:
    print(error)
"""


def write(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = {".jfif": "JPEG", ".jpe": "JPEG", ".tga": "TGA", ".jp2": "JPEG2000"}.get(path.suffix)
        Image.new("RGB", (9, 8)).save(path, kind)


def opened(root, split="train"):
    source = sources.open_source(root, split)
    return source.size, source.class_names


def test_links_to_folders_and_files_are_followed_and_loops_are_not(tmp_path):
    write(tmp_path, "store/1.png", "store/2.png", "data/ant/1.png")
    os.symlink("../store", tmp_path / "data" / "cat")
    os.symlink("../../store/1.png", tmp_path / "data" / "ant" / "2.png")
    os.symlink("..", tmp_path / "data" / "ant" / "loop")
    os.symlink("nowhere.png", tmp_path / "data" / "ant" / "gone.png")
    source = sources.open_source(tmp_path / "data")
    assert (source.size, source.class_names) == (4, ("ant", "cat"))
    assert "dangling links (1)" in source.notes[0]
    assert "links to folders that are read already (1)" in source.notes[0]


def test_a_folder_is_read_once_however_many_links_lead_to_it(tmp_path):
    write(tmp_path, "outside/1.png", "data/ant/1.png", "data/bee/1.png")
    for name, target in (("again", "ant"), ("up", "../.."), ("self", "self"), ("ant/other", "../bee")):
        os.symlink(target, tmp_path / "data" / name)
    source = sources.open_source(tmp_path / "data")
    assert (source.size, source.class_names) == (2, ("ant", "bee"))
    assert "links to folders that are read already (3)" in source.notes[0]
    assert "dangling links (1)" in source.notes[0]


def test_files_of_all_supported_extensions_are_found_and_others_are_counted(tmp_path):
    write(tmp_path, *(f"{ending}.{ending}" for ending in ("jpg", "jfif", "jpe", "ppm", "tga", "jp2", "TIFF")))
    for name in ("a.heic", "b.heic", "notes.txt", "README", ".hidden.png", "@eaDir/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    source = sources.open_source(tmp_path)
    assert source.size == 7
    for part in (
        "files .heic (2)",
        "files .txt (1)",
        "files without an extension (1)",
        "hidden (1)",
        "folders @eaDir (1)",
    ):
        assert part in source.notes[0]


def test_thumbnails_are_skipped(tmp_path):
    write(tmp_path, "ant/1.png", "bee/1.png", "@eaDir/1.png", "ant/@eaDir/1.png", "__MACOSX/1.png")
    assert opened(tmp_path) == (2, ("ant", "bee"))


def test_a_folder_without_permission_is_reported():
    # Not below pytest's own folder, which every session closes to other users again.
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        root.chmod(0o755)
        write(root, "ant/1.png", "bee/1.png")
        (root / "bee").chmod(0)
        command = [sys.executable, "-c", FIND, str(root), os.getcwd()]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        (root / "bee").chmod(0o755)
    assert f"Received: {str(root / 'bee')!r}, Permission denied" in printed


@pytest.mark.parametrize("train", ["train", "Training", "TRAIN"])
@pytest.mark.parametrize("test", ["test", "Testing", "Valid", "validation"])
def test_splits_are_found_by_all_their_names(tmp_path, train, test):
    write(
        tmp_path, f"{train}/ant/1.png", f"{train}/bee/1.png", *(f"{test}/{name}" for name in ("ant/1.png", "bee/2.png"))
    )
    assert opened(tmp_path) == (2, ("ant", "bee"))
    assert sources.open_source(tmp_path, "test").name.endswith(test)


def test_a_class_called_like_a_split_is_a_class_among_others(tmp_path):
    write(tmp_path, "plain/bus/1.png", "plain/car/1.png", "plain/train/1.png")
    assert opened(tmp_path / "plain") == (3, ("bus", "car", "train"))
    with pytest.raises(ValueError, match="no splits"):
        opened(tmp_path / "plain", "test")
    write(tmp_path / "inside", "train/train/1.png", "train/bus/1.png", "val/train/1.png", "val/bus/1.png")
    assert opened(tmp_path / "inside") == (2, ("bus", "train"))


def test_folders_without_images_beside_a_split_do_not_make_it_a_class(tmp_path):
    write(tmp_path, "train/ant/1.png", "train/bee/1.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.xml").write_text("")
    assert opened(tmp_path) == (2, ("ant", "bee"))


def test_two_folders_of_one_split_are_refused(tmp_path):
    write(tmp_path, "train/1.png", "test/1.png", "Test/1.png")
    with pytest.raises(ValueError, match="`split` must name one split.*Test.*test"):
        opened(tmp_path, "test")


def test_an_image_next_to_class_folders_is_reported(tmp_path):
    write(tmp_path, "ant/1.png", "bee/1.png", "sheet.png")
    source = sources.open_source(tmp_path)
    assert (source.size, source.class_names) == (3, ())
    assert "images (1) are next to the class folders, such as sheet.png" in source.notes[0]


@pytest.mark.parametrize(
    "names",
    [
        ("train/ant/1.png", "train/bee/1.png", "unlabeled/1.png"),
        ("train/1.png", "test/1.png", "bus/1.png"),
    ],
)
def test_folders_that_may_be_splits_or_classes_are_refused(tmp_path, names):
    write(tmp_path, *names)
    with pytest.raises(ValueError, match="`data` must hold one folder per split or one folder per class.*train"):
        opened(tmp_path)
    assert opened(tmp_path / "train")[0] == sum(name.startswith("train") for name in names)


def test_splits_with_classes_are_splits_next_to_any_other_folder(tmp_path):
    write(tmp_path, *(f"{split}/{name}/1.png" for split in ("train", "test") for name in ("ant", "bee")))
    write(tmp_path, "unlabeled/1.png", "cover.png")
    source = sources.open_source(tmp_path)
    assert (source.size, source.class_names) == (2, ("ant", "bee"))
    assert "next to the splits: the folders unlabeled and images outside of all folders (1)" in source.notes[0]
    assert opened(tmp_path, "unlabeled") == (1, ())


def test_a_single_folder_is_a_class_if_another_split_has_it(tmp_path):
    write(tmp_path, "train/ant/1.png", "train/caf\u00e9/1.png", "test/cafe\u0301/1.png", "val/images/1.png")
    assert opened(tmp_path, "test") == (1, ("cafe\u0301",))
    assert opened(tmp_path, "val") == (1, ())


def test_class_folders_without_images_are_reported(tmp_path):
    write(tmp_path, "ant/1.png", "bee/1.png")
    (tmp_path / "cat").mkdir()
    assert sources.open_source(tmp_path).notes == (f"no images in these folders of {tmp_path}: cat",)


def test_names_of_invalid_text_can_be_printed(tmp_path):
    for name in (b"\xff", b"\xfe"):
        write(tmp_path, "image.png")
        os.makedirs(os.fsencode(tmp_path) + b"/" + name)
        os.rename(tmp_path / "image.png", os.fsencode(tmp_path) + b"/" + name + b"/image.png")
    with open(os.fsencode(tmp_path) + b"/a.\xff", "w"):
        pass
    source = sources.open_source(tmp_path)
    assert "".join((*source.notes, *source.class_names, source.name)).encode()
    assert len(list(source.examples(0, 0, False))) == 2
