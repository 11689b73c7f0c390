"""Numbered versions of exported models, and the process that exports models of other backends under TensorFlow."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_siamim.arguments import whole_number

# Largest difference between an export's outputs and Keras's, as a share of the largest magnitude.
TOLERANCE = 1e-4


class Export(NamedTuple):
    """Result of an export.

    Attributes:
        path: `Path` of the version's directory.
        error: Float. Largest relative difference of the exported graph's outputs from Keras's, with float32 weights.
        rounding_error: Float. Likewise, with weights in `weights_dtype`.
        size: Integer. Bytes of all files.

    Example:
        >>> from pathlib import Path
        >>> Export(Path("saved_models/digits/1"), 1e-6, 1e-6, 2_000_000).path.name
        '1'
    """

    path: Path
    error: float
    rounding_error: float
    size: int


def check_version(directory: Path, version: int | None) -> None:
    """Raise a ValueError if a version is not None or an integer of at least 1, or exists."""
    if version is None:
        return
    whole_number("version", version)
    if (directory / str(version)).exists():
        raise _version_exists(directory, version)


def _version_exists(directory, version):
    return ValueError(f"`version` must not exist yet. Received: {version}, which {directory} has.")


def _next_version(directory):
    return max([int(child.name) for child in directory.iterdir() if child.name.isdigit()], default=0) + 1


@contextlib.contextmanager
def staging_directory(directory: Path) -> Iterator[Path]:
    """Context with a new hidden directory in `directory` for the files of a version, removed at the end if it is left.

    Args:
        directory: `Path`. Directory of the versions, which is created if it does not exist.
    """
    directory.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".writing-", dir=directory))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def publish(staging: Path, directory: Path, version: int | None) -> Path:
    """Rename a complete version to its number, and never replace another version.

    Args:
        staging: `Path` of a `staging_directory`.
        directory: `Path`. Directory of the versions.
        version: Integer, or None for the next one.

    Returns:
        `Path` of the version's directory.

    Raises:
        ValueError: If the version exists.
    """
    staging.chmod(0o755)  # temporary directories are private
    while True:
        path = directory / str(version or _next_version(directory))
        if not path.exists():  # a rename would replace an empty directory
            try:
                return staging.rename(path)
            except OSError:
                if not path.exists():
                    raise
        # Another process has published this number meanwhile.
        if version:
            raise _version_exists(directory, version)


def size_of(path: Path) -> int:
    """Return the bytes of all files in a directory."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def refuse_above_tolerance(error: float, what: str = "its outputs must equal Keras's") -> None:
    """Raise a RuntimeError if a relative difference exceeds the tolerance or is not a number."""
    if not error <= TOLERANCE:  # also true for NaN
        raise RuntimeError(
            f"The export was refused: {what} to {TOLERANCE:.0e} of the largest magnitude. Received: a difference of "
            f"{error:.1e}."
        )


def export_under_tensorflow(program: str, folder: Path) -> Export:
    """Run a program in a new process whose Keras runs on TensorFlow.

    Args:
        program: String. Name of a module whose command-line argument is a folder, and which calls `write_result`.
        folder: `Path`. The folder.

    Returns:
        The program's `Export`.

    Raises:
        RuntimeError: If the program fails, with its message.
    """
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "CUDA_VISIBLE_DEVICES": "-1",  # this process occupies the accelerator
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, "-m", program, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if not (folder / "result.json").exists():
        raise RuntimeError(f"The process that exports under TensorFlow failed:\n{done.stderr[-4000:]}")
    result = json.loads((folder / "result.json").read_text())
    if "error_message" in result:
        raise RuntimeError(result["error_message"])
    return Export(Path(result["path"]), result["error"], result["rounding_error"], result["size"])


def export_in_new_process(
    program: str, model: keras.Model, reference: dict[str, np.ndarray], settings: dict[str, Any]
) -> Export:
    """Export one model under TensorFlow in a new process, whose program calls `run_export`.

    Args:
        program: String. Name of the module of the program.
        model: Float32 Keras model.
        reference: Dictionary of arrays. Outputs of Keras on the active backend.
        settings: Dictionary of JSON types. Other arguments of the export.

    Returns:
        The program's `Export`.

    Raises:
        RuntimeError: If the program fails, with its message.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save(folder / "model.keras")
        np.savez(folder / "reference.npz", **reference)  # type: ignore[arg-type]  # NumPy's annotation
        (folder / "settings.json").write_text(json.dumps(settings))
        return export_under_tensorflow(program, folder)


def run_export(folder: Path, write: Callable[[keras.Model, dict[str, np.ndarray], dict[str, Any]], Export]) -> None:
    """Export the model of a folder, and write the result for the process that waits for it.

    Args:
        folder: `Path`. Folder that `export_in_new_process` has filled.
        write: Function of the model, the reference outputs and the settings, which writes and returns an `Export`.
    """
    settings = json.loads((folder / "settings.json").read_text())
    with np.load(folder / "reference.npz") as file:
        reference = {name: file[name] for name in file.files}
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    try:
        export = write(model, reference, settings)
    except RuntimeError as error:
        write_result(folder, str(error))
    else:
        write_result(folder, export)


def write_result(folder: Path, result: Export | str) -> None:
    """Write an export, or the message of its failure, for the process that waits for it.

    Args:
        folder: `Path`. The folder of `export_under_tensorflow`.
        result: `Export` or string.
    """
    content: dict[str, Any] = {"error_message": result}
    if isinstance(result, Export):
        content = {**result._asdict(), "path": str(result.path)}
    (folder / "result.json").write_text(json.dumps(content))
