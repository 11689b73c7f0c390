"""Files that several processes share."""


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
