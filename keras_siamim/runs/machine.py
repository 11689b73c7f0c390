"""Machine and version of the code, for the description of a run."""

import contextlib
import os
import platform
import subprocess
import time
from pathlib import Path

from keras import ops


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


def matrix_product_rate(seconds: float = 0.3) -> float:
    """Measure the floating-point operations per second of large matrix products, by the backend.

    Args:
        seconds: Float above 0. Time of the measurement. Defaults to 0.3.

    Returns:
        The rate of the fastest product, which other programs disturb least.

    Example:
        >>> matrix_product_rate(0.01) > 0
        True
    """
    side = 1024
    factor = ops.ones((side, side), "float32")

    def product():
        begin = time.perf_counter()
        ops.convert_to_numpy(ops.matmul(factor, factor)[0, 0])
        return time.perf_counter() - begin

    product()  # the first one compiles
    end, fastest = time.perf_counter() + seconds, product()
    while time.perf_counter() < end:
        fastest = min(fastest, product())
    return 2 * side**3 / fastest


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
