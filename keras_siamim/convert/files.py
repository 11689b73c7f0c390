"""Weight files of others: PyTorch's `.pth` without running code from it, and safetensors."""

import argparse
import json
import pickle
import re
from pathlib import Path

import ml_dtypes
import numpy as np

_SAFETENSORS_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": ml_dtypes.bfloat16,
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
# Wrappers of PyTorch, wherever they stand in a name.
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(module|_orig_mod|_fsdp_wrapped_module)\.")
# First bytes of files that are often saved in place of weights.
_NO_WEIGHTS = {
    b"<": "a web page: the download failed",
    b"version https://git-lfs": "a pointer of Git LFS: fetch the file itself with `git lfs pull`",
    b"{": "text of JSON, such as the index of a file in several parts: join the parts and give that file",
}


def read_weights(path, part=None):
    """Read the weights of a file.

    Args:
        path: `.safetensors`, or a PyTorch file of a state dict or of a checkpoint that holds one as `model` or
            `state_dict`. PyTorch files need PyTorch. They are opened without executing what is pickled in them: of all
            classes only `argparse.Namespace` is allowed, which the authors' programs store.
        part: Key of the state dict in a PyTorch checkpoint that holds several, such as the weights and their moving
            average. Defaults to the only one.

    Returns:
        Arrays by name, floats as float32; the prefixes `module.` and `_orig_mod.` of PyTorch's wrappers are taken off.

    Raises:
        ValueError: If the file is no weight file, or holds pickled objects of other classes.
        FileNotFoundError: If there is none.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weight file {str(path)!r}.")
    with open(path, "rb") as file:
        start = file.read(64)
    # A file of safetensors begins with the length of its header, whose bytes may be any.
    whole = path.suffix == ".safetensors" and 8 + int.from_bytes(start[:8], "little") <= path.stat().st_size
    for beginning, what in _NO_WEIGHTS.items():
        if not whole and start.lstrip().startswith(beginning):
            raise ValueError(f"{path} must be a weight file. It is {what}.")
    weights = read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path, part)
    if not weights:
        raise ValueError(f"{path} must hold weights. It holds none.")
    return {_WRAPPERS.sub("", name): _float32(array) for name, array in weights.items()}


def _float32(array):
    # Half precision is exact in float32; ml_dtypes' bfloat16 is no np.floating.
    is_float = array.dtype == ml_dtypes.bfloat16 or np.issubdtype(array.dtype, np.floating)
    return array.astype("float32") if is_float else array


def _read_torch(path, part):
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"Reading {path} needs PyTorch; safetensors files don't.") from error
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{path} is refused: it is no PyTorch weight file, or would execute code. {reason}") from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path} must hold a dictionary of weights. It holds: {type(checkpoint).__name__}.")
    checkpoint = _state_dict(path, checkpoint, part, torch.Tensor)
    tensors = {name: value for name, value in checkpoint.items() if isinstance(value, torch.Tensor)}
    if narrow := [name for name, value in tensors.items() if "float8" in str(value.dtype)]:
        raise ValueError(
            f"{path} must hold floats of 16 bits or more. Received: {narrow[0]} of {tensors[narrow[0]].dtype}."
        )
    return {
        name: (value.float() if value.is_floating_point() else value).numpy(force=True)
        for name, value in tensors.items()
    }


def _state_dict(path, checkpoint, part, tensor):
    # The dictionary of weights in a checkpoint.
    parts = {
        key: value
        for key, value in checkpoint.items()
        if isinstance(value, dict) and value and any(isinstance(entry, tensor) for entry in value.values())
    }
    listed = ", ".join(map(str, parts)) or "none"
    if part is not None:
        if part not in parts:
            raise ValueError(f"`part` must be one of {listed} in {path}. Received: {part!r}.")
        return parts[part]
    # Programs keep single tensors, such as the best accuracy, beside the weights.
    named = [key for key, value in checkpoint.items() if isinstance(value, tensor) and value.ndim]
    if named and (not parts or len(named) > 1):
        return checkpoint
    if len(parts) > 1:
        raise ValueError(f"`part` must name one of the sets of weights in {path}: {listed}. Received: None.")
    return next(iter(parts.values()), {})


def read_safetensors(path):
    """Arrays by name of a safetensors file (https://github.com/huggingface/safetensors, "Format").

    Raises:
        ValueError: If the file is no such file, or is cut short.
    """
    content = Path(path).read_bytes()
    size = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + size])
        data = content[8 + size :]
        arrays = {}
        for name, entry in header.items():
            if name != "__metadata__":
                if entry["dtype"] not in _SAFETENSORS_DTYPES:
                    raise ValueError(f"{name} has the dtype {entry['dtype']}, which is not supported")
                begin, end = entry["data_offsets"]
                values = np.frombuffer(data[begin:end], np.dtype(_SAFETENSORS_DTYPES[entry["dtype"]]))
                arrays[name] = values.reshape(entry["shape"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no whole safetensors file: {error!r}.") from error
    return arrays


def write_safetensors(path, arrays, metadata=None):
    """Write arrays by name as a safetensors file.

    Args:
        path: The file.
        arrays: float32 NumPy arrays by name.
        metadata: Strings by name, kept in the header.
    """
    header, offset = {"__metadata__": {"format": "pt", **(metadata or {})}}, 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [offset, offset + 4 * array.size]}
        offset += 4 * array.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array, "<f4").tobytes())
