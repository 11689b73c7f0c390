"""TFRecords with damaged bytes: every slot stays, and only lost images are replaced."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_siamim.data import error_handling, pipeline, sources
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.sources import records, tfrecord
from tests.data.sources.test_opening import write_records

pytestmark = pytest.mark.one_backend

FILES, RECORDS = 4, 20


@pytest.fixture
def written(tmp_path):
    """Four files of twenty records; the returned function damages one of them and opens all."""
    write_records(tmp_path, FILES, RECORDS)

    def damage(change=lambda data, offsets: data, file=1):
        path = tmp_path / f"part-{file}.tfrecord"
        data = change(bytearray(path.read_bytes()), tfrecord.scan(str(path))[0])
        path.write_bytes(bytes(data))
        return sources.record_source(str(tmp_path / "part-*"), label_key="class")

    return damage


def flip(data, offset):
    data[offset] ^= 1
    return data


def images_of(source, ledger):
    """The image index of each slot, which is its gray value."""

    def load(entry):
        return error_handling.decoded(source.load(entry))["image"][0, 0, 0]

    batches = source.order(0, 0, shuffle=False).batch(source.size)
    ((_, found),) = batches.map(
        lambda entries: error_handling.fill_batch(source, ledger, entries, load)
    ).as_numpy_iterator()
    return found


def test_records_are_counted_by_their_lengths(written):
    assert written().lengths == (20, 20, 20, 20)


@pytest.mark.parametrize(
    ("change", "lost", "reason"),
    [
        (lambda data, offsets: flip(data, offsets[4] + 30), [4], "its checksum is wrong"),
        (lambda data, offsets: flip(data, offsets[4] + 2), range(4, 20), "lost: the file is damaged"),
        (lambda data, offsets: data[: offsets[19] + 30], [19], "record truncated"),
        (lambda data, offsets: data[: offsets[19] + 5], [19], "lost"),
        (lambda data, offsets: b"no record at all, but a text" * 100, None, "lost"),
    ],
)
def test_only_damaged_records_are_lost(written, change, lost, reason):
    source = written(change)
    ledger = Ledger(limit=0.99)
    found = images_of(source, ledger)
    if lost is None:
        lost = range(source.lengths[1])
    else:
        assert source.lengths == (20, 20, 20, 20)
        expected = np.arange(80)
        expected[[20 + record for record in lost]] = 20 + max(lost) + 1
        np.testing.assert_array_equal(found, expected)
    assert [entry["index"] for entry in ledger.entries()] == [records.FILE_STRIDE + record for record in lost]
    assert all(reason in entry["reason"] for entry in ledger.entries())
    assert ledger.entries()[0]["image"].endswith(f"part-1.tfrecord, record {lost[0]}")


def test_an_empty_or_missing_file_causes_no_endless_loop(written, tmp_path):
    source = written()
    (tmp_path / "part-1.tfrecord").unlink()
    ledger = Ledger(limit=0.5)
    found = images_of(source, ledger)
    np.testing.assert_array_equal(found, [*range(20), *[40] * 20, *range(40, 80)])
    assert "No such file" in ledger.entries()[0]["reason"]
    (tmp_path / "part-1.tfrecord").write_bytes(b"")
    assert written(file=0).lengths == (20, 0, 20, 20)


def test_a_record_without_an_image_is_bad(written, tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "part-9.tfrecord")) as writer:
        writer.write(b"no example")
    ledger = Ledger(limit=0.5)
    images_of(written(), ledger)
    loaded = list(pipeline.evaluation_batches(written(), 8, 10, ledger=ledger))
    assert sum(len(batch["label"]) for batch in loaded) == 80
    assert "part-9.tfrecord, record 0" in ledger.entries()[0]["image"]


def test_files_without_records_are_refused(tmp_path):
    (tmp_path / "a.tfrecord").write_bytes(b"text")
    with pytest.raises(ValueError, match="`files` must be TFRecords. .*no record can be found"):
        sources.record_source([tmp_path / "a.tfrecord"])


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_workers_share_an_epoch(written, workers):
    source = written()
    found = [
        [entry["index"] for entry in source.order(1, 0, True, 7, workers, worker).as_numpy_iterator()]
        for worker in range(workers)
    ]
    assert sorted(itertools.chain(*found)) == [
        k * records.FILE_STRIDE + r for k in range(FILES) for r in range(RECORDS)
    ]
    assert min(map(len, found)) >= source.share(workers) == 80 // workers
    # Four files can be divided evenly among two or four workers, but not three.
    files = [{index // records.FILE_STRIDE for index in own} for own in found]
    assert [len(own) for own in files] == {1: [4], 2: [2, 2], 3: [4, 4, 4], 4: [1, 1, 1, 1]}[workers]
    again = source.order(1, 0, True, 7, workers, 0).map(lambda entry: entry["index"])
    assert list(again.as_numpy_iterator()) == found[0]
