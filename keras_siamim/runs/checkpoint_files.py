"""Checkpoints as folders that are whole or not there, whatever moment a process or a machine dies at.

    checkpoints/order-0-batch-000001200/arrays.npz       every array of the training state
                                        manifest.json    where training stood, and the SHA-256 of the arrays

A checkpoint is written aside under a name that nobody reads, flushed to the disk, and renamed; only then are the ones
before it deleted. What is found damaged later is set aside, and the one before it is used.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np

ARRAYS, MANIFEST = "arrays.npz", "manifest.json"
ASIDE, DAMAGED = ".writing-", ".damaged"
# A file that says where processes that train together are to end.
END = "end"
NAME = re.compile(r"order-(\d+)-batch-(\d+)$")


@dataclasses.dataclass(frozen=True, order=True)
class Progress:
    """Where a run stands, which is all that its data order depends on; later places compare greater.

    Args:
        order: Which data order: one more after every rollback and every new stage, 0 at first.
        batches: Batches trained on since the beginning of the run.
        stage: How often the schedule was started again with a fresh optimizer.
    """

    order: int = 0
    batches: int = 0
    stage: int = 0

    @property
    def name(self):
        """Name of the checkpoint that is made here."""
        return f"order-{self.order}-batch-{self.batches:09d}"

    def reshuffled(self, **changes):
        """The same place in the next data order."""
        return dataclasses.replace(self, order=self.order + 1, **changes)


class NewerCheckpoint(ValueError):
    """A checkpoint tells of training progress in terms that this version doesn't know; it is not damaged."""


class CheckpointFiles:
    """The checkpoints of one run.

    Args:
        folder: Where they lie; made by the first one.
        keep: How many whole ones to keep, 1 or more.

    Raises:
        ValueError: If `keep` is below 1.
    """

    def __init__(self, folder, keep=3):
        if keep < 1:
            raise ValueError(f"`keep` must be 1 or more. Received: {keep}.")
        self.folder = Path(folder)
        self.keep = keep
        self._intact = {}  # stamps of the checkpoints whose checksum this process has verified

    def write(self, place, arrays):
        """Write a checkpoint, then delete those beyond the last `keep`.

        Args:
            place: A `Progress`.
            arrays: NumPy arrays by name.

        Raises:
            OSError: If it can't be written whole, for instance on a full disk. What was there before still is.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        aside, final = self.folder / f"{ASIDE}{place.name}", self.folder / place.name
        shutil.rmtree(aside, ignore_errors=True)
        try:
            aside.mkdir()
            with open(aside / ARRAYS, "wb") as file:
                hashed = _Hashed(file)
                np.savez(hashed, **arrays)
                _to_disk(file)
            with open(aside / MANIFEST, "w") as file:
                json.dump({"place": dataclasses.asdict(place), "sha256": hashed.digest()}, file, indent=1)
                _to_disk(file)
            _folder_to_disk(aside)
            if final.exists():  # the same place is the same state: keep the one on disk unless it is damaged
                if damage(final) is None:
                    return
                set_aside(final)
            os.rename(aside, final)
            _folder_to_disk(self.folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        for old in self.paths()[self.keep :]:
            shutil.rmtree(old, ignore_errors=True)

    def paths(self):
        """Checkpoint folders, the newest first, whole or not."""
        found = {}
        for path in self.folder.glob("order-*-batch-*"):
            if match := NAME.fullmatch(path.name):
                found[int(match[1]), int(match[2])] = path
        return [found[key] for key in sorted(found, reverse=True)]

    def quarantined(self):
        """Damaged checkpoint folders that earlier starts renamed."""
        return sorted(self.folder.glob(f"order-*-batch-*{DAMAGED}"))

    def newest(self, usable=lambda place: True, report=print):
        """The newest whole checkpoint.

        Args:
            usable: Which places will do.
            report: Called with one line for each checkpoint that is passed over, and why.

        Returns:
            Its path and its `Progress`, or `None` if there is none.

        Raises:
            NewerCheckpoint: If a newer version of this package wrote a checkpoint that comes first.
        """
        for path in self.paths():
            problem = self._damage(path)
            if problem:
                report(f"passed over checkpoint {path}: {problem}")
            elif usable(place := read_progress(path)):
                return path, place
        return None

    def propose_end(self, batches):
        """Have all processes end after so many batches of the run, unless another has proposed an end before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), open(self.folder / END, "x") as file:
            file.write(str(batches))

    def proposed_end(self):
        """The batch after which all processes are to end, or `None`."""
        try:
            return int((self.folder / END).read_text())
        except (FileNotFoundError, ValueError):  # none, or being written at this moment
            return None

    def clean(self, report=print):
        """Tidy up after a process that died: delete what it had not finished, set aside what is damaged."""
        (self.folder / END).unlink(missing_ok=True)
        for path in sorted(self.folder.glob(f"{ASIDE}*")):
            shutil.rmtree(path, ignore_errors=True)
            report(f"deleted an unfinished checkpoint: {path.name.removeprefix(ASIDE)}")
        for path in self.paths():
            try:
                problem = self._damage(path, reading_fails=True)
            except OSError:  # perhaps only for now
                continue
            if problem:
                report(f"set aside checkpoint {set_aside(path)}: {problem}")

    def _damage(self, path, reading_fails=False):
        # A checkpoint of gigabytes is read once per process, unless its files change.
        stamp = _stamp(path)
        if stamp is not None and self._intact.get(path) == stamp:
            return None
        problem = damage(path, reading_fails)
        if problem is None:
            self._intact[path] = stamp
        return problem


class _Hashed(io.RawIOBase):
    """A stream into a file that computes the SHA-256 of what passes; it can't go back, so nothing is written twice."""

    def __init__(self, file):
        self._file = file
        self._sha256 = hashlib.sha256()

    def writable(self):
        return True

    def write(self, data):
        self._sha256.update(data)
        return self._file.write(data)

    def digest(self):
        return self._sha256.hexdigest()


def _stamp(path):
    # Changes whenever one of a checkpoint's files does.
    try:
        files = [(path / name).stat() for name in (ARRAYS, MANIFEST)]
    except OSError:
        return None
    return [(file.st_ino, file.st_size, file.st_mtime_ns) for file in files]


def damage(path, reading_fails=False):
    """What is wrong with a checkpoint in words, or `None` if it is whole.

    Args:
        path: The checkpoint.
        reading_fails: Whether files that are there and can't be read are an `OSError` rather than damage.
    """
    try:
        manifest = _manifest(path)
        with open(path / ARRAYS, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        if reading_fails and not isinstance(error, FileNotFoundError):
            raise
        return f"{error.filename or path} can't be read ({error.strerror or error})"
    except NewerCheckpoint:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} is not whole ({error!r})"
    size = (path / ARRAYS).stat().st_size
    return None if digest == manifest["sha256"] else f"the checksum of {ARRAYS} ({size} bytes) is not the recorded one"


def set_aside(path):
    """Rename a damaged checkpoint, so that it is neither read nor counted again; its new path."""
    new = path.with_name(path.name + DAMAGED)
    shutil.rmtree(new, ignore_errors=True)
    path.rename(new)
    return new


def read_progress(path):
    """The `Progress` of a whole checkpoint."""
    return Progress(**_manifest(path)["place"])


def _manifest(path):
    manifest = json.loads((path / MANIFEST).read_text())
    places = {field.name for field in dataclasses.fields(Progress)}
    unknown = manifest.keys() - {"place", "sha256"} | manifest["place"].keys() - places
    if unknown:
        raise NewerCheckpoint(
            f"{path / MANIFEST} must have no fields but place, sha256 and, of a place, {', '.join(sorted(places))}. "
            f"Received: {', '.join(sorted(unknown))}. A newer version of keras_siamim wrote it: resume with that one."
        )
    Progress(**manifest["place"])
    if "sha256" not in manifest:
        raise KeyError("sha256")
    return manifest


def read_arrays(path):
    """The arrays of a whole checkpoint by name, in the order in which they were written."""
    with np.load(path / ARRAYS) as file:
        return {name: file[name] for name in file.files}


def write_text(path, text):
    """Replace a small file as a whole: its old content or the new one is there at any moment, never a part."""
    aside = path.with_name(f"{ASIDE}{path.name}")
    with open(aside, "w") as file:
        file.write(text)
        _to_disk(file)
    os.replace(aside, path)
    _folder_to_disk(path.parent)


def _to_disk(file):
    file.flush()
    os.fsync(file.fileno())


def _folder_to_disk(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
