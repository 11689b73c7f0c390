"""Description of the machine that runs the benchmarks."""

import importlib.metadata
import os
import platform
import time
from typing import Any

from keras_siamim.runs.machine import processor

PACKAGES = ("keras", "tensorflow-cpu", "tensorflow", "jax", "torch", "numpy")


def machine() -> dict[str, Any]:
    """Return processor, memory, system, packages and date as text, and the load average of the last minute."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name))),
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
    }


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
