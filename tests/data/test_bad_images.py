import json
import multiprocessing

import numpy as np
import pytest
import tensorflow as tf

from keras_siamim.data.bad_images import Ledger, TooManyBadImages
from keras_siamim.data.error_handling import Examples, replacements
from keras_siamim.data.sources import array_source, folder_source
from keras_siamim.data.sources.derived import sample_of

pytestmark = pytest.mark.one_backend


class Named(Examples):
    def __init__(self, name, size, locate):
        self.name, self.size, self.locate = name, size, locate


SOURCE = Named("photos", 1000, "file {}".format)


def fill(path, start):
    ledger = Ledger(path, limit=0.5)
    for index in range(start, start + 60):
        ledger.add(SOURCE, index, "empty file")


def test_each_image_is_listed_once(tmp_path):
    ledger = Ledger(tmp_path / "deeper" / "bad.jsonl")
    assert not (tmp_path / "deeper").exists()
    for index in (3, 4, 3):
        ledger.add(SOURCE, index, "empty file")
    lines = (tmp_path / "deeper" / "bad.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == [3, 4]
    assert json.loads(lines[0]) == {"source": "photos", "index": 3, "image": "file 3", "reason": "empty file"}
    assert ledger.reason(SOURCE, 4) == "empty file"
    assert ledger.reason(SOURCE, 5) is None


def test_the_limit_is_a_fraction_of_each_source():
    ledger = Ledger()
    for index in range(10):
        ledger.add(SOURCE, index, "empty file")
    other = Named("others", 100, "{}".format)
    ledger.add(other, 0, "no image")
    for _ in range(2):
        with pytest.raises(
            TooManyBadImages, match=r"11 of the 1,000 images of photos .*0.01.*The first: file 0: empty"
        ):
            ledger.add(SOURCE, 10, "empty file")
    with pytest.raises(ValueError, match=r"`limit` must be in \[0, 1\)\. Received: 1\.5"):
        Ledger(limit=1.5)


def test_the_limit_of_a_sample_is_a_fraction_of_its_own_images():
    source = array_source(np.zeros((200, 4, 4, 3), "uint8"))
    sample = sample_of(source, 100, seed=1)
    inside = sample.indices.tolist()
    ledger = Ledger(limit=0.02)
    for index in sorted(set(range(200)) - set(inside))[:4]:
        ledger.add(source, index, "empty file")
    for index in inside[:2]:
        ledger.add(sample, index, "empty file")
    with pytest.raises(TooManyBadImages, match="3 of the 100 images"):
        ledger.add(sample, inside[2], "empty file")


def test_a_later_run_continues_the_count_and_repairs_an_incomplete_line(tmp_path):
    path = tmp_path / "bad.jsonl"
    Ledger(path).add(SOURCE, 1, "empty file")
    with open(path, "ab") as file:
        file.write(b'{"source": "pho')
    ledger = Ledger(path)
    assert len(ledger.entries(SOURCE)) == 1
    ledger.add(SOURCE, 2, "no image")
    assert [entry["index"] for entry in Ledger(path).entries()] == [1, 2]


def test_a_repaired_image_is_not_listed_again_by_processes_that_listed_it(tmp_path):
    pixels = tf.io.encode_png(np.zeros((4, 4, 3), "uint8")).numpy()
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(pixels if name != "b" else b"no image")
    source = folder_source(tmp_path)
    before = Ledger(tmp_path / "bad.jsonl", limit=0.5)
    assert replacements(source, before, [1]).tolist() == [2]
    (tmp_path / "b.png").write_bytes(pixels)
    after = Ledger(tmp_path / "bad.jsonl")
    after.review(source)
    assert replacements(source, before, [1]).tolist() == [2]
    assert replacements(source, after, [1]).tolist() == [1]
    assert Ledger(tmp_path / "bad.jsonl").reason(source, 1) is None


def test_file_names_may_be_invalid_text(tmp_path):
    source = Named("a", 1000, lambda index: b"\xff\n.png".decode(errors="surrogateescape"))
    Ledger(tmp_path / "bad.jsonl").add(source, 1, "empty file")
    assert Ledger(tmp_path / "bad.jsonl").entries()[0]["image"] == "\udcff\n.png"


def test_several_processes_write_one_ledger(tmp_path):
    context = multiprocessing.get_context("fork")
    path = tmp_path / "bad.jsonl"
    workers = [context.Process(target=fill, args=(path, start)) for start in (0, 30)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    lines = path.read_text().splitlines()
    assert sorted(json.loads(line)["index"] for line in lines) == list(range(90))


def test_ledgers_of_one_list_with_other_limits_tell_of_an_image_once(tmp_path, caplog):
    for path in (None, tmp_path / "bad.jsonl"):
        caplog.clear()
        ledger = Ledger(path)
        tolerant = ledger.with_limit(0.5)
        tolerant.add(SOURCE, 1, "empty file")
        ledger.add(SOURCE, 1, "empty file")
        ledger.add(SOURCE, 2, "empty file")
        assert [entry["index"] for entry in tolerant.entries()] == [1, 2]
        assert len(caplog.messages) == 2
        with pytest.raises(TooManyBadImages):
            ledger.with_limit(0).check_limit(SOURCE)


def test_a_list_in_memory_moves_to_a_file(tmp_path):
    path = tmp_path / "bad.jsonl"
    Ledger().keep_in(path)
    assert not path.exists()
    ledger = Ledger()
    ledger.add(SOURCE, 1, "empty file")
    ledger.keep_in(path)
    ledger.keep_in(path)
    ledger.add(SOURCE, 2, "empty file")
    assert [json.loads(line)["index"] for line in path.read_text().splitlines()] == [1, 2]
