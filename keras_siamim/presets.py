"""Weights by name or address: files of this machine, web addresses, and what authors have released."""

import hashlib
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import keras

from keras_siamim.backbones.vit import set_preset_loader
from keras_siamim.convert import load_encoder

RUN_FILES = ("encoder.keras", "model.keras")
_HUGGING_FACE = "hf://"
_WEB = ("https://",)


class Released(NamedTuple):
    """Weights that authors have published.

    Attributes:
        page: Where they describe them.
        license: Of the weights.
        address: Of the file; None where none is known.
    """

    page: str
    license: str
    address: str | None = None


_SIAMESE_IM = Released("https://github.com/OpenGVLab/Siamese-Image-Modeling", "CC BY-NC")
_MAE = Released("https://github.com/facebookresearch/mae", "CC BY-NC 4.0")
_MAE_FILES = "https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_{}.pth"
_MOCO = Released("https://github.com/facebookresearch/moco-v3", "CC BY-NC 4.0")
_MOCO_FILES = "https://dl.fbaipublicfiles.com/moco-v3/{0}-300ep/{0}-300ep.pth.tar"

# Sizes and SHA-256 sums are not published by the authors, so none is claimed; give `sha256` once you trust a file.
RELEASED = {
    "siameseim_vit_base_1600ep": _SIAMESE_IM,
    "siameseim_vit_base_1600ep_finetuned": _SIAMESE_IM,
    "mae_vit_base": _MAE._replace(address=_MAE_FILES.format("base")),
    "mae_vit_large": _MAE._replace(address=_MAE_FILES.format("large")),
    "mae_vit_huge": _MAE._replace(address=_MAE_FILES.format("huge")),
    "mocov3_vit_small": _MOCO._replace(address=_MOCO_FILES.format("vit-s")),
    "mocov3_vit_base": _MOCO._replace(address=_MOCO_FILES.format("vit-b")),
}


def load_model(path):
    """Load what Keras has saved, on any backend.

    Args:
        path: A `.keras` file, or a run's folder that holds `encoder.keras` or `model.keras`.

    Returns:
        The Keras model.

    Raises:
        ValueError: If there is nothing of the kind at `path`.
    """
    path = Path(path)
    if path.is_file() and path.suffix != ".keras":  # others may run code when they are loaded
        raise ValueError(f"`path` must be a .keras file or a folder. Received: {path}.")
    found = [path] if path.is_file() else [path / name for name in RUN_FILES if (path / name).is_file()]
    if not found:
        raise ValueError(f"`path` must be a .keras file or a folder with {' or '.join(RUN_FILES)}. Received: {path}.")
    return keras.saving.load_model(found[0], compile=False)


def load_preset(name, sha256=None, **options):
    """An encoder with weights; what `ViTEncoder.from_preset` does with names that are no architecture.

    Args:
        name: A name in `RELEASED`; a `.keras`, `.safetensors` or `.pth` file, or a run's folder; a web address; or
            `hf://OWNER/REPOSITORY[/FILE]`, whose file is `model.safetensors` by default.
        sha256: What the file must have, 64 hexadecimal digits. Defaults to any.
        **options: Of `keras_siamim.convert.load_encoder`, for files that are not Keras's.

    Returns:
        A `ViTEncoder`, or whatever encoder a `.keras` file holds.

    Raises:
        ValueError: If the name means nothing, has no known address, or if the file's SHA-256 is another.
        ConnectionError: If a file must be fetched and can't be.
    """
    name = str(name)
    if name in RELEASED:
        released = RELEASED[name]
        if released.address is None:
            raise ValueError(
                f"No address of the file of {name!r} is known. Get it from {released.page} (license: "
                f"{released.license}) and give its path."
            )
        name = released.address
    if name.startswith(_HUGGING_FACE):
        name = _hugging_face_address(name)
    if name.startswith("http://"):
        raise ValueError(f"`name` must be an address that is encrypted, https://. Received: {name!r}.")
    path = fetch(name) if name.startswith(_WEB) else Path(name)
    if not path.exists():
        raise ValueError(
            f"`name` must be a file, a run's folder, an address (https://, hf://), one of {', '.join(RELEASED)}, or an "
            f"architecture of the form vit_SIZE_patchP_S. Received: {name!r}."
        )
    if sha256 is not None:
        _check_sum(path, sha256, fetched=name.startswith(_WEB))
    if path.is_dir() or path.suffix == ".keras":
        model = load_model(path)
        return getattr(model, "encoder", model)
    encoder, _ = load_encoder(path, **options)
    return encoder


set_preset_loader(load_preset)


def fetch(address):
    """A file by its web address, kept in Keras's cache folder and fetched once.

    Returns:
        Its path.

    Raises:
        ConnectionError: If it can't be fetched.
    """
    # Many repositories call their file alike, so the address is in the name.
    fname = f"{hashlib.sha256(address.encode()).hexdigest()[:12]}-{urlsplit(address).path.rsplit('/', 1)[-1]}"
    try:
        return Path(keras.utils.get_file(fname, origin=address, cache_subdir="keras_siamim"))
    except Exception as error:  # Keras raises a bare Exception
        raise ConnectionError(
            f"{address} can't be fetched: {error} Without a network, get the file elsewhere and give its path."
        ) from error


def _check_sum(path, sha256, fetched):
    if path.is_dir():
        raise ValueError(f"`sha256` must be None for a folder. Received: {sha256} for {path}.")
    found = _sha256(path)
    if found != sha256.lower():
        if fetched:
            path.unlink()  # it would be taken from the cache the next time
        raise ValueError(f"`sha256` of {path} must be {sha256}. It is: {found}.")


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hugging_face_address(name):
    parts = name.removeprefix(_HUGGING_FACE).split("/")
    if len(parts) < 2 or not all(parts):
        raise ValueError(f"`name` must have the form hf://OWNER/REPOSITORY[/FILE]. Received: {name!r}.")
    owner, repository, *file = parts
    return f"https://huggingface.co/{owner}/{repository}/resolve/main/{'/'.join(file) or 'model.safetensors'}"
