"""Locks of files that several processes share, and file names in messages."""

from collections.abc import Iterable
from typing import IO


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
