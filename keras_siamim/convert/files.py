"""Weight files of others: PyTorch's `.pth` without running code from it, and safetensors."""

import argparse
import json
import re
from pathlib import Path

import ml_dtypes
import numpy as np

_SAFETENSORS_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": ml_dtypes.bfloat16,
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
# Wrappers of PyTorch, wherever they stand in a name.
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_SHARD = re.compile(r"\d+-of-0*(\d+)$")
# In the names of every Vision Transformer.
_EMBEDDING = re.compile(r"cls_token|patch_embed")
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
            average; of a nested one the keys joined by dots, `"teacher.backbone"`. Defaults to the only one.

    Returns:
        Arrays by name, floats as float32; the prefixes `module.` and `_orig_mod.` of PyTorch's wrappers are taken off.

    Raises:
        ValueError: If the file is no weight file, or holds pickled objects of other classes.
        FileNotFoundError: If there is none.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weight file {str(path)!r}.")
    _refuse_no_weights(path)
    if path.suffix == ".safetensors":
        if part is not None:
            raise ValueError(f"`part` must be None for {path}: safetensors hold one set. Received: {part!r}.")
        weights = read_safetensors(path)
    else:
        weights = _read_torch(path, part)
    if not weights:
        raise ValueError(f"{path} must hold weights. It holds none.")
    names = [_WRAPPERS.sub("", name) for name in weights]
    if twice := sorted({name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()):
        raise ValueError(f"{path} must hold every weight once. It holds with and without a wrapper: {twice[:5]}.")
    return {name: _float32(array) for name, array in zip(names, weights.values(), strict=True)}


def _refuse_no_weights(path):
    with open(path, "rb") as file:
        start = file.read(64)
    if not start:
        raise ValueError(f"{path} must be a weight file. It is empty.")
    shard = _SHARD.search(path.stem)
    if shard and int(shard[1]) > 1:
        raise ValueError(
            f"{path} must be a whole weight file. It is one of {shard[1]} parts: join them and give that file."
        )
    if b"\0" in start:  # of the formats of weights, none of text
        return
    for beginning, what in _NO_WEIGHTS.items():
        if start.lstrip().startswith(beginning):
            raise ValueError(f"{path} must be a weight file. It is {what}.")


def _float32(array):
    # Half precision is exact in float32; ml_dtypes' bfloat16 is no np.floating.
    is_float = array.dtype == ml_dtypes.bfloat16 or np.issubdtype(array.dtype, np.floating)
    with np.errstate(over="ignore"):  # infinity is refused where it is used
        return array.astype("float32") if is_float else array


def _read_torch(path, part):
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"Reading {path} needs PyTorch; safetensors files don't.") from error
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle raise almost anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is refused: it is no PyTorch weight file, or would execute code. {reason}") from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path} must hold a dictionary of weights. It holds: {type(checkpoint).__name__}.")
    checkpoint = _state_dict(path, checkpoint, part, torch.Tensor)
    tensors = {name: value for name, value in checkpoint.items() if isinstance(value, torch.Tensor)}
    if narrow := [name for name, value in tensors.items() if "float8" in str(value.dtype)]:
        raise ValueError(
            f"{path} must hold floats of 16 bits or more. Received: {narrow[0]} of {tensors[narrow[0]].dtype}."
        )
    try:
        return {
            name: (value.float() if value.is_floating_point() else value).numpy(force=True)
            for name, value in tensors.items()
        }
    except (RuntimeError, TypeError) as error:  # quantized, sparse
        raise ValueError(f"{path} must hold dense arrays of numbers. {error}") from error


def _state_dict(path, checkpoint, part, tensor):
    """The dictionary of weights in a checkpoint, however deep it is."""
    sets = dict(_tensor_dicts(checkpoint, tensor))
    # Beside the weights a checkpoint may hold the optimizer's moments, a loss's center, a scaler.
    encoders = {key: value for key, value in sets.items() if any(_EMBEDDING.search(name) for name in value)}
    sets = encoders or sets
    listed = ", ".join([key or "'' (the file itself)" for key in sets][:12]) or "none"
    if part is not None:
        if part not in sets:
            raise ValueError(f"`part` must be one of {listed} in {path}. Received: {part!r}.")
        return sets[part]
    if len(sets) > 1:
        raise ValueError(f"`part` must name one of the sets of weights in {path}: {listed}. Received: None.")
    return next(iter(sets.values()), {})


def _tensor_dicts(tree, tensor, key=""):
    """Yield every dictionary that holds tensors by name, with its keys joined by dots."""
    if any(isinstance(value, tensor) for value in tree.values()) and all(isinstance(name, str) for name in tree):
        yield key, tree
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _tensor_dicts(value, tensor, f"{key}.{name}" if key else str(name))


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


def stored_num_heads(path):
    """Attention heads that `save_encoder` has written into a safetensors file; None where there are none."""
    if Path(path).suffix != ".safetensors":
        return None
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    text = (header.get("__metadata__") or {}).get("num_heads", "")
    return int(text) if text.isdecimal() else None


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
