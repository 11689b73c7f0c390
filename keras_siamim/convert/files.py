"""Weight files: read PyTorch files without executing code, read and write safetensors."""

import argparse
import contextlib
import json
import re
from pathlib import Path

# Importing it also registers NumPy's name "bfloat16", which safetensors uses.
import ml_dtypes
import numpy as np

from keras_siamim.files import write_atomically
from keras_siamim.types import PathLike

# All others, such as float8, are rejected by name.
_SAFETENSORS_DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL")
# PyTorch's wrappers add these components anywhere in a name.
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_SHARD = re.compile(r"\d+-of-0*(\d+)$")
# Every Vision Transformer has these names.
_EMBEDDING = re.compile(r"cls_token|patch_embed")
# First bytes of files that are often saved by mistake.
_OTHER_FILES = {
    b"<": "a web page: the download failed",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself with `git lfs pull`",
    b"{": "JSON text, such as the index of a sharded file: merge the shards and pass the result",
}


def read_weights(path: PathLike, part: str | None = None) -> dict[str, np.ndarray]:
    """Read the weights of a file.

    Safetensors files need the package `safetensors`; all other files need PyTorch. PyTorch files are opened without
    executing pickled code. `argparse.Namespace`, which the authors' programs store, is the only additional class
    allowed.

    Args:
        path: String or path. A `.safetensors` file, or a PyTorch file with a state dict. The state dict may be nested
            in a checkpoint, for example as `model` or `state_dict`.
        part: String. Key of the state dict in a PyTorch checkpoint with several, such as weights and their moving
            average. The keys of a nested one are joined by dots: `"teacher.backbone"`. Defaults to the only one.

    Returns:
        Dictionary of arrays by name. Floats are float32. Prefixes of PyTorch's wrappers (`module.`, `_orig_mod.`) are
        removed.

    Raises:
        ValueError: If the file is no weight file, or holds pickled objects of other classes.
        FileNotFoundError: If the file does not exist.
        ImportError: If the package that reads the file is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be an existing weight file. Received: {str(path)!r}.")
    _reject_other_files(path)
    if path.suffix == ".safetensors":
        if part is not None:
            raise ValueError(
                f"`part` must be None for a safetensors file, which holds one set of weights. Received: {part!r} for "
                f"{path}."
            )
        weights = read_safetensors(path)
    else:
        weights = _read_torch(path, part)
    if not weights:
        raise ValueError(f"`path` must hold weights. Received: {path}, which has none.")
    names = [_WRAPPERS.sub("", name) for name in weights]
    if duplicates := sorted({name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()):
        raise ValueError(
            f"`path` must hold every weight once. Received: {path}, with and without a wrapper's prefix: "
            f"{duplicates[:5]}."
        )
    return {name: _float32(array) for name, array in zip(names, weights.values(), strict=True)}


def _reject_other_files(path):
    with open(path, "rb") as file:
        start = file.read(64)
    if not start:
        raise ValueError(f"`path` must be a weight file. Received: {path}, which is empty.")
    shard = _SHARD.search(path.stem)
    if shard and int(shard[1]) > 1:
        raise ValueError(
            f"`path` must be a complete weight file. Received: {path}, one of {shard[1]} shards: merge them and pass "
            "the result."
        )
    if b"\0" in start:  # binary, as all weight files are
        return
    for beginning, description in _OTHER_FILES.items():
        if start.lstrip().startswith(beginning):
            raise ValueError(f"`path` must be a weight file. Received: {path}, {description}.")


def _float32(array):
    # ml_dtypes' bfloat16 is not a subtype of np.floating. Half precision is exact in float32.
    is_float = array.dtype == ml_dtypes.bfloat16 or np.issubdtype(array.dtype, np.floating)
    with np.errstate(over="ignore"):  # the assignment to a variable rejects infinity
        return array.astype("float32") if is_float else array


def _read_torch(path, part):
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"PyTorch must be installed to read {path}; safetensors files do not need it.") from error
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle raise almost anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"`path` must be a PyTorch weight file that loads without executing code. Received: {path} ({reason})."
        ) from error
    if not isinstance(checkpoint, dict):
        raise ValueError(
            f"`path` must hold a dictionary of weights. Received: {path}, which holds a {type(checkpoint).__name__}."
        )
    checkpoint = _state_dict(path, checkpoint, part, torch.Tensor)
    tensors = {name: value for name, value in checkpoint.items() if isinstance(value, torch.Tensor)}
    if narrow := [name for name, value in tensors.items() if "float8" in str(value.dtype)]:
        raise ValueError(
            f"`path` must hold floats of 16 bits or more. Received: {narrow[0]} of {tensors[narrow[0]].dtype} in "
            f"{path}."
        )
    try:
        return {
            name: (value.float() if value.is_floating_point() else value).numpy(force=True)
            for name, value in tensors.items()
        }
    except (RuntimeError, TypeError) as error:  # quantized, sparse
        raise ValueError(f"`path` must hold dense numeric arrays. Received: {path} ({error}).") from error


def _state_dict(path, checkpoint, part, tensor):
    """Return the dictionary of weights at any depth of a checkpoint."""
    sets = dict(_tensor_dicts(checkpoint, tensor))
    # A checkpoint may also hold the optimizer's moments, a loss's center, a scaler.
    encoders = {key: value for key, value in sets.items() if any(_EMBEDDING.search(name) for name in value)}
    sets = encoders or sets
    listed = ", ".join([key or "'' (the file itself)" for key in sets][:12]) or "none"
    if part not in sets and (part is not None or len(sets) > 1):
        raise ValueError(f"`part` must be one of {listed}, the sets of weights in {path}. Received: {part!r}.")
    return next(iter(sets.values()), {}) if part is None else sets[part]


def _tensor_dicts(tree, tensor, key=""):
    """Yield every dictionary that holds tensors by name, with its keys joined by dots."""
    if any(isinstance(value, tensor) for value in tree.values()) and all(isinstance(name, str) for name in tree):
        yield key, tree
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _tensor_dicts(value, tensor, f"{key}.{name}" if key else str(name))


def read_safetensors(path: PathLike) -> dict[str, np.ndarray]:
    """Read a safetensors file. Needs the package `safetensors`.

    Args:
        path: String or path. The file.

    Returns:
        Dictionary of arrays by name, in the dtypes of the file. bfloat16 is that of `ml_dtypes`.

    Raises:
        ValueError: If the file is damaged or of another format, or has a tensor of an unsupported dtype.
        ImportError: If `safetensors` is missing.
    """
    with _open_safetensors(path) as file:
        names = file.keys()
        dtypes = {name: file.get_slice(name).get_dtype() for name in names}
        for name, dtype in dtypes.items():
            if dtype not in _SAFETENSORS_DTYPES:
                raise ValueError(
                    f"`path` must hold tensors of the types {', '.join(_SAFETENSORS_DTYPES)}. Received: {name} of "
                    f"{dtype} in {path}."
                )
        return {name: file.get_tensor(name) for name in names}


def stored_num_heads(path: PathLike) -> int | None:
    """Return the number of attention heads that `save_encoder` stored in a file.

    Args:
        path: String or path. A weight file.

    Returns:
        Integer; None for a file of another format or without this entry.
    """
    if Path(path).suffix != ".safetensors":
        return None
    with _open_safetensors(path) as file:
        text = (file.metadata() or {}).get("num_heads", "")
    return int(text) if text.isdecimal() else None


def write_safetensors(path: PathLike, arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, whose bytes depend on the arguments alone. Needs the package `safetensors`.

    Args:
        path: String or path. The file; an existing one is replaced.
        arrays: Dictionary of float32 arrays by name.
        metadata: Dictionary of strings by name, stored in the header. Defaults to none.

    Raises:
        ImportError: If `safetensors` is missing.
    """
    safetensors = _import_safetensors()
    # The library writes an array's memory without regard to its strides.
    contiguous = {name: np.asarray(array, "float32", order="C") for name, array in arrays.items()}
    content = safetensors.numpy.save(contiguous, {"format": "pt", **(metadata or {})})
    # The library writes the metadata in another order on every call, but equal arrays should give equal files.
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    # The library's `save_file` would make the file readable by its owner only.
    with write_atomically(path) as file:
        file.writelines([len(text).to_bytes(8, "little"), text, memoryview(content)[end:]])


@contextlib.contextmanager
def _open_safetensors(path):
    safetensors = _import_safetensors()
    try:
        with safetensors.safe_open(path, framework="np") as file:
            yield file
    except safetensors.SafetensorError as error:
        raise ValueError(f"`path` must be an intact safetensors file. Received: {path} ({error}).") from error


def _import_safetensors():
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "`safetensors` must be installed for .safetensors files: pip install keras-siamim[convert]"
        ) from error
    return safetensors
