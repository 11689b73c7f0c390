import json
import multiprocessing
import types

import pytest

from keras_siamim.data.ledger import Ledger, TooManyBadImages

pytestmark = pytest.mark.one_backend

SOURCE = types.SimpleNamespace(name="photos", size=1000, locate="file {}".format)


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


def test_the_limit_is_a_share_of_each_source():
    ledger = Ledger()
    for index in range(10):
        ledger.add(SOURCE, index, "empty file")
    other = types.SimpleNamespace(name="others", size=100, locate="{}".format)
    ledger.add(other, 0, "no image")
    for _ in range(2):
        with pytest.raises(
            TooManyBadImages, match=r"11 of the 1,000 images of photos .*0.01.*The first: file 0: empty"
        ):
            ledger.add(SOURCE, 10, "empty file")
    with pytest.raises(ValueError, match=r"limit must be a share .*received 1\.5"):
        Ledger(limit=1.5)


def test_a_later_run_goes_on_counting_and_repairs_a_torn_line(tmp_path):
    path = tmp_path / "bad.jsonl"
    Ledger(path).add(SOURCE, 1, "empty file")
    with open(path, "ab") as file:
        file.write(b'{"source": "pho')
    ledger = Ledger(path)
    assert len(ledger.entries(SOURCE)) == 1
    ledger.add(SOURCE, 2, "no image")
    assert [entry["index"] for entry in Ledger(path).entries()] == [1, 2]


def test_names_need_not_be_text(tmp_path):
    source = types.SimpleNamespace(
        name="a", size=1000, locate=lambda index: b"\xff\n.png".decode(errors="surrogateescape")
    )
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
