"""Images that can't be read: replaced in their place, listed, counted, and too many of them stop the run."""

import errno
import itertools
import json
import os
import resource

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_siamim.data import error_handling, pipeline, sources
from keras_siamim.data.bad_images import Ledger, TooManyBadImages
from keras_siamim.data.views.paired_views import PairedViews
from keras_siamim.data.views.recipe import ViewRecipe
from tests.data.images import bad_files
from tests.data.images.test_decoding import decoded
from tests.programs import mutate_images

pytestmark = pytest.mark.one_backend

PLAIN = ViewRecipe.crop_and_flip()
COUNT, BAD = 22, (0, 5, 6, 21)


def batches(source, count, **options):
    views = PairedViews(16, PLAIN, None, seed=2)
    made = pipeline.training_batches(source, views, batch_size=4, **options)
    return list(itertools.islice(made.as_numpy_iterator(), count))


def labels(found):
    return np.concatenate([batch["label"] for batch in found])


def make_folder(folder, bad=(), sides=(40, 44)):
    """A folder with the classes 00...21, an image of one gray value each, of heights that take turns."""
    for k in range(COUNT):
        (folder / f"{k:02}").mkdir(parents=True)
        side = sides[k % len(sides)]
        Image.fromarray(np.full((side, 48, 3), 10 * k, "uint8")).save(folder / f"{k:02}" / "a.png")
    for k, data in zip(bad, itertools.cycle(bad_files.bad_files().values()), strict=False):
        (folder / f"{k:02}" / "a.png").write_bytes(data)
    return sources.folder_source(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("spoilt"), BAD)


def test_odd_files_are_converted(tmp_path):
    bad_files.write(tmp_path, bad_files.odd_files())
    source = sources.open_source(str(tmp_path))
    assert not [source.locate(k) for k in range(source.size) if error_handling.failure(source, k)]
    ledger = Ledger(limit=0)
    made = pipeline.training_batches(source, PairedViews(16, PLAIN, None), batch_size=source.size, ledger=ledger)
    (batch,) = made.take(1).as_numpy_iterator()
    assert batch["view_1"].shape == (len(bad_files.odd_files()), 16, 16, 3)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.jpg", "empty file"),
        ("text.png", "not an image"),
        ("cut_off.jpg", "Invalid JPEG data"),
        ("head_only.jpg", "Invalid JPEG data"),
        ("cut_off.png", "Invalid PNG data"),
        ("cut_off.gif", "not an image|truncated"),
        ("cut_off.webp", "decoder|truncated"),
        ("corrupt_tables.jpg", "Invalid JPEG data"),
        ("corrupt_data.png", "Invalid PNG data"),
        ("giant.png", "9500 x 9000 pixels, more than 80,000,000"),
    ],
)
def test_bad_files_have_a_reason(name, reason, tmp_path):
    bad_files.write(tmp_path, {name: bad_files.bad_files()[name]})
    with pytest.raises(TooManyBadImages, match=f"1 of the 1 images of .*{name}: .*({reason}).*Repair or remove"):
        error_handling.replacements(sources.open_source(str(tmp_path)), Ledger(), [0])


def test_orientation_is_found_behind_a_large_profile():
    lying = decoded(bad_files.odd_files()["on_its_side_far_in.jpg"])
    np.testing.assert_array_equal(lying, decoded(bad_files.odd_files()["on_its_side.jpg"]))
    assert lying.shape == (40, 30, 3)


@pytest.mark.slow
@pytest.mark.parametrize("one_size", [False, True])
def test_a_bad_image_moves_no_other_and_the_next_good_one_takes_its_place(one_size, whole, spoilt, tmp_path):
    if one_size:
        whole = make_folder(tmp_path / "whole", sides=[40])
        spoilt = make_folder(tmp_path / "spoilt", BAD, sides=[40])
    ledger = Ledger(limit=0.5)
    found = batches(spoilt, 10, ledger=ledger)
    expected = batches(whole, 10)
    stand_in = {0: 1, 5: 7, 6: 7, 21: 1}
    np.testing.assert_array_equal(labels(found), [stand_in.get(label, label) for label in labels(expected)])
    for one, other in zip(found, expected, strict=True):
        same = one["label"] == other["label"]
        np.testing.assert_array_equal(one["view_1"][same], other["view_1"][same])
    assert sorted(entry["index"] for entry in ledger.entries()) == sorted(BAD)


@pytest.mark.slow
def test_replacements_depend_on_neither_workers_nor_where_a_run_starts(spoilt):
    options = {"ledger": Ledger(limit=0.5), "shuffle": False}
    alone = batches(spoilt, 10, **options)
    later = batches(spoilt, 4, start_epoch=1, start_step=1, **options)
    np.testing.assert_array_equal(labels(later), labels(alone[6:]))
    np.testing.assert_array_equal(later[0]["view_1"], alone[6]["view_1"])
    shared = [batches(spoilt, 2, workers=2, worker=worker, **options) for worker in range(2)]
    np.testing.assert_array_equal(np.stack([labels(own) for own in shared], -1).ravel(), labels(alone)[:16])


def test_too_many_stop_the_run_and_name_the_ledger(spoilt, tmp_path):
    ledger = Ledger(tmp_path / "bad.jsonl", limit=0.1)
    message = r"3 of the 22 images of .*, more than the limit of 0.1 of them.*00/a.png: .*listed in .*bad.jsonl"
    with pytest.raises(TooManyBadImages, match=message), ledger.short_errors():
        batches(spoilt, 10, ledger=ledger, shuffle=False)
    assert len((tmp_path / "bad.jsonl").read_text().splitlines()) == 3


def test_nothing_but_bad_images_is_an_error_and_no_endless_search(tmp_path):
    source = make_folder(tmp_path, range(COUNT))
    ledger = Ledger(limit=0.999)
    with pytest.raises(TooManyBadImages, match="22 of the 22 images"), ledger.short_errors():
        batches(source, 1, ledger=ledger)


def test_an_unreadable_test_image_is_an_error_that_names_it(spoilt):
    with pytest.raises(tf.errors.OpError, match=r"\d of the 22 images of .*/a.png: "):
        list(pipeline.evaluation_batches(spoilt, 16, 4))


def test_with_a_ledger_evaluation_leaves_bad_images_out(spoilt):
    ledger = Ledger(limit=0.5)
    found = list(pipeline.evaluation_batches(spoilt, 16, 4, ledger=ledger).as_numpy_iterator())
    np.testing.assert_array_equal(labels(found), np.delete(np.arange(COUNT), BAD))
    assert {len(batch["view_1"]) for batch in found[:-1]} == {4}
    assert len(ledger.entries()) == len(BAD)


def test_files_that_vanish_are_bad_too(tmp_path):
    source = make_folder(tmp_path)
    (tmp_path / "03" / "a.png").unlink()
    ledger = Ledger(limit=0.5)
    assert 3 not in labels(batches(source, 5, ledger=ledger))
    assert "No such file" in ledger.entries()[0]["reason"]


def test_errors_of_the_machine_make_no_image_bad(tmp_path):
    source = make_folder(tmp_path)
    ledger = Ledger(limit=0.5)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(tf.errors.ResourceExhaustedError, match="Too many open files"):
            error_handling.replacements(source, ledger, [0])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert ledger.entries() == []
    with pytest.raises(OSError, match="00/a.png could not be read: .*Too many open files"), ledger.short_errors():
        raise tf.errors.UnknownError(None, None, "as a pipeline passes it on")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOMEM])
def test_only_errors_of_the_file_make_an_image_bad(number):
    def read(index):
        raise OSError(error, os.strerror(error), "a.png")

    source = sources.IndexedSource("some", 3, read)
    error = number
    with pytest.raises(OSError, match="a.png"):
        error_handling.failure(source, 0)
    for error in (errno.ENOENT, errno.EACCES):
        assert os.strerror(error) in error_handling.failure(source, 0)


def test_images_of_one_size_are_noticed_and_one_of_another_size_costs_nothing(tmp_path):
    equal = make_folder(tmp_path / "equal", sides=[40])
    assert sources.folder_source(tmp_path / "equal").image_shape is None
    found = batches(equal, 5, shuffle=False)
    Image.fromarray(np.full((30, 48, 3), 60, "uint8")).save(tmp_path / "equal" / "06" / "a.png")
    mixed = batches(equal, 5, shuffle=False)
    for one, other in zip(found, mixed, strict=True):
        np.testing.assert_array_equal(one["label"], other["label"])
        # One gray level of 255 is 0.018 here: the second batch was loaded per image.
        np.testing.assert_allclose(one["view_1"], other["view_1"], atol=0.02)


def test_an_image_of_another_size_than_a_source_states_is_bad(tmp_path):
    folder = make_folder(tmp_path, sides=[40] * 21 + [30])
    stated = sources.IndexedSource("stated", COUNT, folder.read, folder.class_names, (40, 48))
    ledger = Ledger(limit=0.5)
    found = batches(stated, 10, ledger=ledger, on_device=True)
    assert found[0]["images"].shape == (4, 40, 48, 3)
    assert [entry["reason"] for entry in ledger.entries()] == ["48 x 30 pixels where all should have 48 x 40"]


def test_what_is_read_into_memory_keeps_its_places(spoilt):
    cached = sources.cached(spoilt)
    assert cached.size == spoilt.size
    ledger = Ledger(limit=0.5)
    assert list(labels(batches(cached, 2, ledger=ledger, shuffle=False))) == [1, 1, 2, 3, 4, 7, 7, 7]
    assert ledger.entries()[0]["image"].endswith("00/a.png")


@pytest.mark.slow
def test_damaged_jpegs_crash_nothing_and_leak_nothing():
    ledger, steps, memory = mutate_images.run(200)
    assert steps == 4
    assert 60 < len(ledger.entries()) < 180
    assert memory[-1] < memory[0] + 50
    assert all(entry["reason"] and "\n" not in json.dumps(entry) for entry in ledger.entries())
