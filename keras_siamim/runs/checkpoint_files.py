"""Atomic checkpoint folders.

    checkpoints/order-0-batch-000001200/arrays.npz       all arrays of the training state
                                        manifest.json    training progress, and the SHA-256 checksum of the arrays

`CheckpointFiles` writes a checkpoint to a staging folder, flushes it to the disk and renames it. Only then does it
delete older checkpoints. If a checkpoint is damaged later, it is quarantined and training resumes from the one before.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from keras_siamim.files import STAGING, flush_folder_to_disk, flush_to_disk
from keras_siamim.types import PathLike

ARRAYS, MANIFEST = "arrays.npz", "manifest.json"
# Suffix of quarantined checkpoints.
DAMAGED = ".damaged"
# File with the batch after which all processes of a run stop.
END = "end"
# Difference between the seeds of successive data orders of a run.
ORDER_STRIDE = 1_000_003
NAME = re.compile(r"order-(\d+)-batch-(\d+)$")


@dataclasses.dataclass(frozen=True, order=True)
class Progress:
    """Training progress of a run. It determines the batches that follow, and it can be compared.

    Args:
        order: Integer. Index of the data order, which increases with every rollback and every new stage. Defaults to 0.
        batches: Integer. Number of batches since the beginning of the run. Defaults to 0.
        stage: Integer. Index of the schedule phase. Each phase has a fresh optimizer. Defaults to 0.

    Example:
        >>> Progress(order=1, batches=5) > Progress(order=0, batches=20)
        True
        >>> Progress(batches=1200).name
        'order-0-batch-000001200'
    """

    order: int = 0
    batches: int = 0
    stage: int = 0

    @property
    def name(self) -> str:
        """Name of the checkpoint folder."""
        return f"order-{self.order}-batch-{self.batches:09d}"

    def seed_of_order(self, seed: int) -> int:
        """Return the seed of the data of this progress's order.

        Args:
            seed: Integer. Seed of the run, that of the first order.

        Example:
            >>> Progress(order=0).seed_of_order(7), Progress(order=1).seed_of_order(7)
            (7, 1000010)
        """
        return seed + ORDER_STRIDE * self.order

    def reshuffled(self, **changes: int) -> "Progress":
        """Return this progress with the next data order.

        Args:
            **changes: Other fields to replace.

        Returns:
            A `Progress`.
        """
        return dataclasses.replace(self, order=self.order + 1, **changes)


class NewerCheckpoint(ValueError):
    """Error for a checkpoint of a newer version of this package. The checkpoint itself is intact."""


class CheckpointFiles:
    """The checkpoints of one run on the disk.

    Args:
        folder: Path. The first checkpoint creates the folder.
        keep: Integer, 1 or more. Number of checkpoints to keep. Defaults to 3.

    Raises:
        ValueError: If `keep` is below 1.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = CheckpointFiles(folder)
        ...     files.write(Progress(batches=10), {"kernel": np.ones(3)})
        ...     files.newest()[1]
        Progress(order=0, batches=10, stage=0)
    """

    def __init__(self, folder: PathLike, keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"`keep` must be 1 or more. Received: {keep}.")
        self.folder = Path(folder)
        self.keep = keep
        # File stamps of the checkpoints whose checksum this process has verified.
        self._intact: dict[Path, Any] = {}

    def write(self, progress: Progress, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a checkpoint, then delete all but the newest `keep`.

        Args:
            progress: A `Progress`. If its checkpoint exists and is intact, that one is kept.
            arrays: Dictionary of NumPy arrays by name.

        Raises:
            OSError: If the checkpoint cannot be written, for example on a full disk. Earlier checkpoints stay intact.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        staging, final = self.folder / f"{STAGING}{progress.name}", self.folder / progress.name
        shutil.rmtree(staging, ignore_errors=True)
        try:
            staging.mkdir()
            with open(staging / ARRAYS, "wb") as file:
                hashing = _HashingWriter(file)
                np.savez(hashing, **arrays)  # type: ignore[arg-type]  # its stub types all keywords as bool
                flush_to_disk(file)
            with open(staging / MANIFEST, "w") as text:
                json.dump({"progress": dataclasses.asdict(progress), "sha256": hashing.digest()}, text, indent=1)
                flush_to_disk(text)
            flush_folder_to_disk(staging)
            if final.exists():  # equal progress means an equal state
                if find_damage(final) is None:
                    return
                quarantine(final)
            os.rename(staging, final)
            flush_folder_to_disk(self.folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        for old in self.paths()[self.keep :]:
            shutil.rmtree(old, ignore_errors=True)

    def paths(self) -> list[Path]:
        """Return the checkpoint folders, intact or damaged, newest first."""
        found = {}
        for path in self.folder.glob("order-*-batch-*"):
            if match := NAME.fullmatch(path.name):
                found[int(match[1]), int(match[2])] = path
        return [found[key] for key in sorted(found, reverse=True)]

    def quarantined(self) -> list[Path]:
        """Return the folders of damaged checkpoints that `clean` renamed."""
        return sorted(self.folder.glob(f"order-*-batch-*{DAMAGED}"))

    def newest(
        self,
        usable: Callable[[Progress], bool] = lambda progress: True,
        report: Callable[[str], object] = print,
    ) -> tuple[Path, Progress] | None:
        """Return the newest intact checkpoint.

        Args:
            usable: Function from a `Progress` to a bool that selects checkpoints. Defaults to all.
            report: Function of one line of text. It is called with the reason for every skipped checkpoint. Defaults to
                `print`.

        Returns:
            Tuple of the path and its `Progress`. None if there is no such checkpoint.

        Raises:
            NewerCheckpoint: If a newer version of this package wrote a checkpoint that would come first.
        """
        for path in self.paths():
            problem = self._find_damage(path)
            if problem:
                report(f"skipped checkpoint {path}: {problem}")
            elif usable(progress := read_progress(path)):
                return path, progress
        return None

    def propose_end(self, batches: int) -> None:
        """Propose that all processes stop after a batch. Only the first proposal counts.

        Args:
            batches: Integer. Number of batches since the beginning of the run.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), open(self.folder / END, "x") as file:
            file.write(str(batches))

    def proposed_end(self) -> int | None:
        """Return the number of batches after which all processes stop, or None without a proposal."""
        try:
            return int((self.folder / END).read_text())
        except (FileNotFoundError, ValueError):  # ValueError: another process is writing it
            return None

    def clean(self, report: Callable[[str], object] = print) -> None:
        """Delete unfinished checkpoints of killed processes, and quarantine damaged ones.

        Args:
            report: Function of one line of text. It is called for every such checkpoint. Defaults to `print`.

        Raises:
            NewerCheckpoint: If a newer version of this package wrote a checkpoint.
        """
        (self.folder / END).unlink(missing_ok=True)
        for path in sorted(self.folder.glob(f"{STAGING}*")):
            shutil.rmtree(path, ignore_errors=True)
            report(f"deleted unfinished checkpoint {path.name.removeprefix(STAGING)}")
        for path in self.paths():
            try:
                problem = self._find_damage(path, raise_read_errors=True)
            except OSError:  # the file system may recover
                continue
            if problem:
                report(f"quarantined checkpoint {quarantine(path)}: {problem}")

    def _find_damage(self, path, raise_read_errors=False):
        # A checkpoint can have gigabytes: verify it once per process, and again only if its files change.
        stamp = _stamp(path)
        if stamp is not None and self._intact.get(path) == stamp:
            return None
        problem = find_damage(path, raise_read_errors)
        if problem is None:
            self._intact[path] = stamp
        return problem


class _HashingWriter(io.RawIOBase):
    # A writer that computes the SHA-256 checksum of the data. It cannot seek, so nothing is written twice.
    def __init__(self, file: BinaryIO) -> None:
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
    # Changes whenever one of the checkpoint's files changes.
    try:
        files = [(path / name).stat() for name in (ARRAYS, MANIFEST)]
    except OSError:
        return None
    return [(file.st_ino, file.st_size, file.st_mtime_ns) for file in files]


def find_damage(path: Path, raise_read_errors: bool = False) -> str | None:
    """Verify a checkpoint and its checksum.

    Args:
        path: Path of the checkpoint folder.
        raise_read_errors: Bool. Raise errors from reading existing files, instead of returning them. Defaults to False.

    Returns:
        The reason why the checkpoint is damaged. None if it is intact.

    Raises:
        OSError: If `raise_read_errors` is True and an existing file cannot be read.
        NewerCheckpoint: If a newer version of this package wrote the checkpoint.
    """
    try:
        manifest = _manifest(path)
        with open(path / ARRAYS, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        if raise_read_errors and not isinstance(error, FileNotFoundError):
            raise
        return f"{error.filename or path} cannot be read ({error.strerror or error})"
    except NewerCheckpoint:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} is invalid ({error!r})"
    if digest == manifest["sha256"]:
        return None
    return f"the checksum of {ARRAYS} ({(path / ARRAYS).stat().st_size} bytes) differs from the recorded one"


def quarantine(path: Path) -> Path:
    """Rename a damaged checkpoint, so that it is ignored from now on.

    Args:
        path: Path of the checkpoint folder.

    Returns:
        The new path.
    """
    new = path.with_name(path.name + DAMAGED)
    shutil.rmtree(new, ignore_errors=True)
    path.rename(new)
    return new


def read_progress(path: Path) -> Progress:
    """Return the training progress of an intact checkpoint.

    Args:
        path: Path of the checkpoint folder.

    Returns:
        A `Progress`.
    """
    return Progress(**_manifest(path)["progress"])


def _manifest(path):
    manifest = json.loads((path / MANIFEST).read_text())
    known = {field.name for field in dataclasses.fields(Progress)}
    unknown = manifest.keys() - {"progress", "sha256"} | manifest["progress"].keys() - known
    if unknown:
        raise NewerCheckpoint(
            f"`{MANIFEST}` must have only the fields progress ({', '.join(sorted(known))}) and sha256. "
            f"Received: {', '.join(sorted(unknown))} in {path}. "
            "A newer version of keras_siamim wrote this checkpoint: resume with that version."
        )
    Progress(**manifest["progress"])
    if "sha256" not in manifest:
        raise KeyError("sha256")
    return manifest


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an intact checkpoint.

    Args:
        path: Path of the checkpoint folder.

    Returns:
        A dictionary of arrays by name, in the order in which they were written.
    """
    with np.load(path / ARRAYS) as file:
        return {name: file[name] for name in file.files}
