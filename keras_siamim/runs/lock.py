"""Lock of a run folder, so that only one process at a time writes to it."""

import os
import socket
from pathlib import Path
from typing import IO

from keras_siamim import files
from keras_siamim.types import PathLike


class FolderLock:
    """Context manager that locks a folder for this process.

    The operating system releases the lock when the process ends or is killed. The lock is the file `lock`, which stays
    in the folder and names the last process that held it.

    Args:
        folder: Path of an existing folder.

    Raises:
        BlockingIOError: On entering, if another process holds the lock.
        OSError: On entering, if the folder cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, FolderLock(folder) as lock:
        ...     lock.path.name
        'lock'
    """

    def __init__(self, folder: PathLike) -> None:
        self.path = Path(folder) / "lock"
        self._file: IO[str]

    def __enter__(self) -> "FolderLock":
        self._file = open(self.path, "a+")  # noqa: SIM115  `__exit__` closes it, which releases the lock
        try:
            files.lock(self._file, wait=False)
        except BlockingIOError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise BlockingIOError(
                f"`folder` must be written by one process only. Received: {self.path.parent}, locked by {holder}."
            ) from error
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
