import contextlib
import hashlib
import json
import os
import resource

import numpy as np
import pytest

from keras_siamim.runs.checkpoint_files import (
    ARRAYS,
    ASIDE,
    MANIFEST,
    CheckpointFiles,
    NewerCheckpoint,
    Progress,
    read_arrays,
)

pytestmark = pytest.mark.one_backend

STATE = {"model/00000/kernel": np.arange(6.0).reshape(2, 3), "optimizer/00000/iterations": np.int64(7)}


@pytest.fixture
def files(tmp_path):
    """Two checkpoints, after 10 and 20 batches."""
    files = CheckpointFiles(tmp_path / "checkpoints")
    for batches in (10, 20):
        files.write(Progress(batches=batches), {**STATE, "batches": np.int32(batches)})
    return files


@pytest.fixture
def told():
    return []


@pytest.fixture
def without_rights():
    """Act as a user who owns nothing: an administrator's writing is never refused."""

    @contextlib.contextmanager
    def nobody():
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(user)

    return nobody


def batches_of(files, report=print):
    path, place = files.newest(report=report)
    assert int(read_arrays(path)["batches"]) == place.batches
    return place.batches


def test_what_is_written_is_read(files):
    arrays = read_arrays(files.newest()[0])
    assert list(arrays) == [*STATE, "batches"]
    for name, array in STATE.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_the_last_ones_are_kept(files):
    for batches in (30, 40):
        files.write(Progress(batches=batches), {})
    assert [path.name for path in files.paths()] == [Progress(batches=batches).name for batches in (40, 30, 20)]


def test_a_later_data_order_is_newer_than_more_batches(files):
    files.write(Progress(order=1, batches=5), {"batches": np.int32(5)})
    assert batches_of(files) == 5


def test_nothing_is_the_newest_of_nothing(tmp_path):
    assert CheckpointFiles(tmp_path / "none").newest() is None


@pytest.mark.parametrize("file", [ARRAYS, MANIFEST])
@pytest.mark.parametrize("size", [0, 0.5])
def test_a_truncated_one_is_set_aside_with_its_reason_and_the_one_before_it_taken(files, told, file, size):
    path = files.paths()[0] / file
    os.truncate(path, int(size * path.stat().st_size))
    assert batches_of(files, told.append) == 10
    assert "batch-000000020" in told[0]
    assert file in told[0]
    files.clean(told.append)
    assert len(files.paths()) == 1
    assert batches_of(files) == 10


@pytest.mark.parametrize("content", ["[]", "null", "{}", '{"place": 1, "sha256": ""}', '{"place": {}}'])
def test_a_manifest_of_another_kind_is_damage(files, told, content):
    (files.paths()[0] / MANIFEST).write_text(content)
    assert batches_of(files, told.append) == 10
    assert MANIFEST in told[0]


def test_a_checkpoint_is_read_once_per_process_unless_it_changes(files, told, monkeypatch):
    read, digest = [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *arguments: read.append(1) or digest(*arguments))
    files.clean(told.append)
    assert batches_of(files) == 20
    assert len(read) == 2
    files.write(Progress(batches=30), {"batches": np.int32(30)})
    assert len(read) == 2  # the checksum was computed while writing
    path = files.paths()[1] / ARRAYS
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    files.clean(told.append)
    assert "batch-000000020" in told[0]


def test_one_flipped_bit_is_damage(files, told):
    path = files.paths()[0] / ARRAYS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert batches_of(files, told.append) == 10
    assert "checksum" in told[0]


def test_a_damaged_one_is_written_anew_when_training_comes_by_again(files):
    os.truncate(files.paths()[0] / ARRAYS, 5)
    files.write(Progress(batches=20), {"batches": np.int32(20)})
    assert batches_of(files) == 20


def test_what_a_dying_process_left_is_deleted(files, told):
    (files.folder / f"{ASIDE}order-0-batch-000000030").mkdir()
    files.clean(told.append)
    assert len(told) == 1
    assert len(list(files.folder.iterdir())) == 2


def test_a_full_disk_leaves_the_earlier_ones_and_nothing_else(files):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            files.write(Progress(batches=30), {"large": np.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(list(files.folder.iterdir())) == 2
    assert batches_of(files) == 20


def test_a_read_only_folder_is_still_read(files, monkeypatch, without_rights):
    files.folder.chmod(0o555)
    monkeypatch.chdir(files.folder)  # a user who may not pass the folders above may still be inside
    files = CheckpointFiles(".")
    with without_rights(), pytest.raises(PermissionError):
        files.write(Progress(batches=30), STATE)
    assert batches_of(files) == 20
    assert len(list(files.folder.iterdir())) == 2


def test_none_are_kept_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`keep`.*0"):
        CheckpointFiles(tmp_path, keep=0)


@pytest.mark.parametrize("where", ["manifest", "place"])
def test_a_checkpoint_of_a_newer_version_is_named_and_left_alone(files, told, where):
    path = files.paths()[0] / MANIFEST
    manifest = json.loads(path.read_text())
    {"manifest": manifest, "place": manifest["place"]}[where]["shard"] = 1
    path.write_text(json.dumps(manifest))
    for look in (files.clean, files.newest):
        with pytest.raises(NewerCheckpoint, match="Received: shard.*newer version"):
            look(report=told.append)
    assert len(files.paths()) == 2
