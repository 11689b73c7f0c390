"""Locks of files that several processes share, and file names in messages."""

import contextlib
import os
import pathlib
import time
from collections.abc import Iterable, Iterator
from typing import IO, BinaryIO

# Prefix of files and folders that are still being written. Readers ignore them.
STAGING = ".writing-"


def lock(file: IO, wait: bool = True) -> None:
    """Lock an open file for this process, until it is closed or the process ends.

    Args:
        file: Open file object with a descriptor.
        wait: bool. Whether to wait for another process that holds the lock. Defaults to True.

    Raises:
        BlockingIOError: If another process holds the lock and `wait` is False.
        OSError: On Windows, which has no `fcntl`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryFile() as file:
        ...     lock(file)
    """
    try:
        import fcntl
    except ImportError as error:
        raise OSError(
            "File locks need Python's `fcntl`, which exists on Linux and macOS only. On Windows, run in WSL or a Linux "
            "container."
        ) from error
    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def printable(name: str) -> str:
    r"""Return a file name that every stream can print: undecodable bytes become escapes.

    Example:
        >>> printable(b"caf\xe9".decode(errors="surrogateescape"))
        'caf\\udce9'
    """
    return name.encode("utf-8", "backslashreplace").decode()


def listed(names: Iterable[str], separator: str = ", ", most: int = 10) -> str:
    """Join names for a message, at most `most` of them.

    Args:
        names: Strings.
        separator: str. Text between two names. Defaults to `", "`.
        most: int. Number of names to show; the rest is counted. Defaults to 10.

    Example:
        >>> listed(["ant", "bee", "cat"], most=2)
        'ant, bee and 1 more'
    """
    names = list(names)
    return separator.join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


@contextlib.contextmanager
def replace_atomically(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yield the path of a staging file that replaces `path` when the block ends without an error.

    For functions that write to a path. Readers see either the old content or the complete new content, even after a
    crash or a power failure.

    Args:
        path: Path of the file, in an existing folder.

    Yields:
        Path of a file to create, with the ending of `path`.

    Raises:
        OSError: If the file cannot be written. `path` then keeps its old content.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "state.txt")
        ...     with replace_atomically(path) as staging:
        ...         _ = staging.write_text("complete")
        ...     path.read_text()
        'complete'
    """
    target = pathlib.Path(path)
    # Several processes may write the same file, each through its own staging file.
    staging = target.with_name(f"{STAGING}{os.getpid()}-{target.name}")
    try:
        yield staging
        with open(staging, "rb+") as file:
            flush_to_disk(file)
        os.replace(staging, target)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise
    flush_folder_to_disk(target.parent)


@contextlib.contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a staging file that replaces `path` when the block ends without an error, see `replace_atomically`.

    Args:
        path: Path of the file, in an existing folder.

    Yields:
        A binary file object, open for writing.

    Raises:
        OSError: If the file cannot be written. `path` then keeps its old content.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "state")
        ...     with write_atomically(path) as file:
        ...         _ = file.write(b"complete")
        ...     path.read_text()
        'complete'
    """
    with replace_atomically(path) as staging, open(staging, "wb") as file:
        yield file


def delete_abandoned(folder: str | os.PathLike[str], seconds: float = 3600) -> None:
    """Delete the staging files that killed processes left in a folder.

    Args:
        folder: Path of an existing folder.
        seconds: float. Age above which no process is writing a file any more. Defaults to 3600, an hour.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pathlib.Path(folder, f"{STAGING}1-state").touch()
        ...     delete_abandoned(folder, seconds=-1)
        ...     os.listdir(folder)
        []
    """
    for path in pathlib.Path(folder).glob(f"{STAGING}*"):
        # The file's writer or another process that cleans up may be faster.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > seconds:
                path.unlink()


def flush_to_disk(file: IO) -> None:
    """Write the buffered content of an open file to the disk.

    Args:
        file: File object, open for writing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryFile() as file:
        ...     flush_to_disk(file)
    """
    file.flush()
    os.fsync(file.fileno())


def flush_folder_to_disk(folder: str | os.PathLike[str]) -> None:
    """Write the entries of a folder to the disk, so that renamed files keep their new names after a power failure.

    Args:
        folder: Path of an existing folder.

    Example:
        >>> flush_folder_to_disk(".")
    """
    if os.name == "nt":  # Windows does not open folders.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
