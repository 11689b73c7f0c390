"""One process at a time writes a run."""

import os
import socket
from pathlib import Path

from keras_siamim import files


class FolderLock:
    """Holds a folder for this process while inside; the system lets go of it when a process dies, however it dies.

    Args:
        folder: An existing folder; the lock is its file `lock`, which stays and says who wrote here last.

    Raises:
        BlockingIOError: On entering, if another process holds it.
        OSError: On entering, if the folder can't be written.
    """

    def __init__(self, folder):
        self.path = Path(folder) / "lock"

    def __enter__(self):
        self._file = open(self.path, "a+")  # noqa: SIM115  closed on leaving, which unlocks it
        try:
            files.lock(self._file, wait=False)
        except BlockingIOError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise BlockingIOError(f"{self.path.parent} is being written by {holder}; one run, one process.") from error
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()
        return self

    def __exit__(self, *_):
        self._file.close()
