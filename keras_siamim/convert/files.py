"""Weight files of others: PyTorch's `.pth` without running code from it, and safetensors."""

import argparse
import json
import pickle
from pathlib import Path

import ml_dtypes
import numpy as np

_SAFETENSORS_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": ml_dtypes.bfloat16,
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_NESTED = ("model", "state_dict", "model_state_dict", "model_ema")


def read_weights(path):
    """Read the weights of a file.

    Args:
        path: `.safetensors`, or a PyTorch file of a state dict or of a checkpoint that holds one as `model` or
            `state_dict`. PyTorch files need PyTorch. They are opened without executing what is pickled in them: of all
            classes only `argparse.Namespace` is allowed, which the authors' programs store.

    Returns:
        Arrays by name, floats as float32; the prefix `module.` of PyTorch's data parallelism is taken off.

    Raises:
        ValueError: If the file is no weight file, or holds pickled objects of other classes.
        FileNotFoundError: If there is none.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weight file {str(path)!r}.")
    weights = read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not weights:
        raise ValueError(f"{path} holds no weights.")
    return {name.removeprefix("module."): _float32(array) for name, array in weights.items()}


def _float32(array):
    # Half precision is exact in float32; ml_dtypes' bfloat16 is no np.floating.
    is_float = array.dtype == ml_dtypes.bfloat16 or np.issubdtype(array.dtype, np.floating)
    return array.astype("float32") if is_float else array


def _read_torch(path):
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"Reading {path} needs PyTorch; safetensors files don't.") from error
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{path} is refused: it is no PyTorch weight file, or would execute code. {reason}") from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path} must hold a dictionary of weights. It holds: {type(checkpoint).__name__}.")
    for key in _NESTED:
        if isinstance(checkpoint.get(key), dict):
            checkpoint = checkpoint[key]
            break
    tensors = {name: value for name, value in checkpoint.items() if isinstance(value, torch.Tensor)}
    return {
        name: (value.float() if value.is_floating_point() else value).numpy(force=True)
        for name, value in tensors.items()
    }


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
