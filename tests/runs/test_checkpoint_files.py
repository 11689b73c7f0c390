import contextlib
import hashlib
import json
import os
import resource

import numpy as np
import pytest

from keras_siamim.runs.checkpoint_files import (
    ARRAYS,
    MANIFEST,
    STAGING,
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
def lines():
    return []


@pytest.fixture
def without_rights():
    """Act as a user without permissions, since an administrator can write everywhere."""

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
    path, progress = files.newest(report=report)
    assert int(read_arrays(path)["batches"]) == progress.batches
    return progress.batches


def test_written_arrays_are_read_back(files):
    arrays = read_arrays(files.newest()[0])
    assert list(arrays) == [*STATE, "batches"]
    for name, array in STATE.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_the_newest_checkpoints_are_kept(files):
    for batches in (30, 40):
        files.write(Progress(batches=batches), {})
    assert [path.name for path in files.paths()] == [Progress(batches=batches).name for batches in (40, 30, 20)]


def test_a_later_data_order_is_newer_than_more_batches(files):
    files.write(Progress(order=1, batches=5), {"batches": np.int32(5)})
    assert batches_of(files) == 5


def test_an_empty_folder_has_no_newest_checkpoint(tmp_path):
    assert CheckpointFiles(tmp_path / "none").newest() is None


@pytest.mark.parametrize("file", [ARRAYS, MANIFEST])
@pytest.mark.parametrize("size", [0, 0.5])
def test_a_truncated_checkpoint_is_quarantined_with_its_reason_and_the_one_before_it_is_used(files, lines, file, size):
    path = files.paths()[0] / file
    os.truncate(path, int(size * path.stat().st_size))
    assert batches_of(files, lines.append) == 10
    assert "batch-000000020" in lines[0]
    assert file in lines[0]
    files.clean(lines.append)
    assert len(files.paths()) == 1
    assert batches_of(files) == 10


@pytest.mark.parametrize("content", ["[]", "null", "{}", '{"progress": 1, "sha256": ""}', '{"progress": {}}'])
def test_an_invalid_manifest_is_damage(files, lines, content):
    (files.paths()[0] / MANIFEST).write_text(content)
    assert batches_of(files, lines.append) == 10
    assert MANIFEST in lines[0]


def test_a_checkpoint_is_read_once_per_process_unless_it_changes(files, lines, monkeypatch):
    read, digest = [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *arguments: read.append(1) or digest(*arguments))
    files.clean(lines.append)
    assert batches_of(files) == 20
    assert len(read) == 2
    files.write(Progress(batches=30), {"batches": np.int32(30)})
    assert len(read) == 2  # the checksum was computed while writing
    path = files.paths()[1] / ARRAYS
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    files.clean(lines.append)
    assert "batch-000000020" in lines[0]


def test_one_flipped_bit_is_damage(files, lines):
    path = files.paths()[0] / ARRAYS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert batches_of(files, lines.append) == 10
    assert "checksum" in lines[0]


def test_a_damaged_checkpoint_is_written_again(files):
    os.truncate(files.paths()[0] / ARRAYS, 5)
    files.write(Progress(batches=20), {"batches": np.int32(20)})
    assert batches_of(files) == 20


def test_unfinished_checkpoints_are_deleted(files, lines):
    (files.folder / f"{STAGING}order-0-batch-000000030").mkdir()
    files.clean(lines.append)
    assert len(lines) == 1
    assert len(list(files.folder.iterdir())) == 2


def test_a_full_disk_leaves_only_the_earlier_checkpoints(files):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            files.write(Progress(batches=30), {"large": np.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(list(files.folder.iterdir())) == 2
    assert batches_of(files) == 20


def test_a_read_only_folder_can_be_read(files, monkeypatch, without_rights):
    files.folder.chmod(0o555)
    monkeypatch.chdir(files.folder)  # the folders above may be closed to other users
    files = CheckpointFiles(".")
    with without_rights(), pytest.raises(PermissionError):
        files.write(Progress(batches=30), STATE)
    assert batches_of(files) == 20
    assert len(list(files.folder.iterdir())) == 2


def test_keep_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match=r"`keep`.*0"):
        CheckpointFiles(tmp_path, keep=0)


@pytest.mark.parametrize("where", ["manifest", "progress"])
def test_a_checkpoint_of_a_newer_version_is_reported_and_kept(files, lines, where):
    path = files.paths()[0] / MANIFEST
    manifest = json.loads(path.read_text())
    {"manifest": manifest, "progress": manifest["progress"]}[where]["shard"] = 1
    path.write_text(json.dumps(manifest))
    for read in (files.clean, files.newest):
        with pytest.raises(NewerCheckpoint, match="Received: shard.*newer version"):
            read(report=lines.append)
    assert len(files.paths()) == 2
