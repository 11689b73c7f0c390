"""Files that several processes share, and their names in messages."""


def lock(file, wait=True):
    """Lock an open file for this process, until it is closed or the process ends.

    Args:
        file: Open file object with a descriptor.
        wait: Bool. Wait for another process that holds the lock. Defaults to True.

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
            "Files are locked with `fcntl`, which Python has on Linux and macOS only. On Windows, run in WSL or a "
            "Linux container."
        ) from error
    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def printable(name):
    r"""Return a file's name as text that every stream can print: bytes that are no text become escapes.

    Example:
    >>> printable(b"caf\xe9".decode(errors="surrogateescape"))
    'caf\\udce9'
    """
    return name.encode("utf-8", "backslashreplace").decode()


def listed(names, separator=", ", most=10):
    """Join names for a message, at most `most` of them.

    Example:
    >>> listed(["ant", "bee", "cat"], most=2)
    'ant, bee and 1 more'
    """
    names = list(names)
    return separator.join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
