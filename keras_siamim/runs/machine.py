"""Machine and version of the code, for the description of a run."""

import contextlib
import os
import platform
import subprocess
from pathlib import Path


def processor() -> str:
    """Return the name of the processor, or of its architecture where the system does not tell the name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def machine() -> str:
    """Return one line about the processor and the system.

    Example:
        >>> "cores" in machine()
        True
    """
    return f"{processor()}, {os.cpu_count()} cores, {platform.system()}"


def free_memory() -> float | None:
    """Return the main memory in bytes that programs can take, or None where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    return None


def commit() -> str | None:
    """Return the newest Git commit of this package, with `+` after changes, or None outside of a checkout."""
    folder = Path(__file__).parents[1]

    def git(*arguments):
        return subprocess.run(
            ["git", "-C", str(folder), *arguments, "--", "."], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    with contextlib.suppress(OSError, subprocess.SubprocessError):
        # Only commits of the package count: an installed package may lie inside another project's checkout.
        if found := git("log", "-1", "--format=%h"):
            return found + ("+" if git("status", "--porcelain") else "")
    return None
