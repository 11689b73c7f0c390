"""Encoders with weights, by name, file or URL."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import keras

from keras_siamim.backbones.vit import set_preset_loader
from keras_siamim.convert import load_encoder as load_weights_of_encoder
from keras_siamim.evaluation.encoders import SavedModelEncoder
from keras_siamim.types import PathLike

RUN_FILES, SAVED_MODEL = ("encoder.keras", "model.keras"), "saved_model.pb"
_HUGGING_FACE = "hf://"
_URL_SCHEMES = ("https://",)


class ReleasedWeights(NamedTuple):
    """Weights that the authors of a paper have published.

    Attributes:
        page: str. URL of the authors' description.
        license: str. License of the weights.
        url: str or None. URL of the file, None if the authors publish no stable one.
    """

    page: str
    license: str
    url: str | None = None


_SIAMESE_IM = ReleasedWeights("https://github.com/OpenGVLab/Siamese-Image-Modeling", "CC BY-NC")
_MAE = ReleasedWeights("https://github.com/facebookresearch/mae", "CC BY-NC 4.0")
_MAE_FILES = "https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_{}.pth"
_MOCO = ReleasedWeights("https://github.com/facebookresearch/moco-v3", "CC BY-NC 4.0")
_MOCO_FILES = "https://dl.fbaipublicfiles.com/moco-v3/{0}-300ep/{0}-300ep.pth.tar"

# The authors publish neither sizes nor SHA-256 sums, so none are listed here. Pass `sha256` once you trust a file.
RELEASED_WEIGHTS = {
    "siameseim_vit_base_1600ep": _SIAMESE_IM,
    "siameseim_vit_base_1600ep_finetuned": _SIAMESE_IM,
    "mae_vit_base": _MAE._replace(url=_MAE_FILES.format("base")),
    "mae_vit_large": _MAE._replace(url=_MAE_FILES.format("large")),
    "mae_vit_huge": _MAE._replace(url=_MAE_FILES.format("huge")),
    "mocov3_vit_small": _MOCO._replace(url=_MOCO_FILES.format("vit-s")),
    "mocov3_vit_base": _MOCO._replace(url=_MOCO_FILES.format("vit-b")),
}


def load_model(path: PathLike) -> keras.Model:
    """Load a saved Keras model on any backend.

    Args:
        path: Path of a `.keras` file, or of a run's folder that holds `encoder.keras` or `model.keras`.

    Returns:
        The Keras model, not compiled.

    Raises:
        ValueError: If `path` is neither.
    """
    path = Path(path)
    if path.is_file() and path.suffix != ".keras":  # loading other formats can run code
        raise ValueError(f"`path` must be a .keras file or a folder. Received: {path}.")
    found = [path] if path.is_file() else [path / name for name in RUN_FILES if (path / name).is_file()]
    if not found:
        raise ValueError(f"`path` must be a .keras file or a folder with {' or '.join(RUN_FILES)}. Received: {path}.")
    return keras.saving.load_model(found[0], compile=False)


def load_encoder(path: PathLike) -> keras.Model | SavedModelEncoder:
    """Load an encoder for evaluation.

    Args:
        path: Path of a `.keras` file of an encoder or of an objective, whose `encoder` is loaded; of a run's folder; of
            a SavedModel; or of a directory of numbered SavedModels, whose largest number is loaded.

    Returns:
        A `keras.Model` or a `SavedModelEncoder`.

    Raises:
        ValueError: If `path` does not exist or is none of these.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"`path` must exist. Received: {str(path)!r}.")
    if path.is_dir():
        versions = [child for child in path.iterdir() if child.name.isdigit() and (child / SAVED_MODEL).exists()]
        if (path / SAVED_MODEL).exists():
            return SavedModelEncoder(path)
        if versions:
            return SavedModelEncoder(max(versions, key=lambda child: int(child.name)))
        if not any((path / name).exists() for name in RUN_FILES):
            raise ValueError(
                f"`path` must be a .keras file, a SavedModel, or a folder with {' or '.join(RUN_FILES)}. Received: "
                f"{str(path)!r} with {sorted(child.name for child in path.iterdir())[:10]}."
            )
    return _encoder_of(load_model(path))


def _encoder_of(model):
    encoder = getattr(model, "encoder", model)
    return encoder if isinstance(encoder, keras.Model) else model


def preset_path(name: PathLike) -> Path:
    """Return the file or folder of a preset; a URL is downloaded to Keras's cache folder.

    Args:
        name: As for `load_preset`.

    Raises:
        ValueError: If the name is unknown or its file has no known URL.
        ConnectionError: If the download fails.
    """
    name = str(name)
    if name in RELEASED_WEIGHTS:
        released = RELEASED_WEIGHTS[name]
        if released.url is None:
            raise ValueError(
                f"`name` must be the path of the downloaded file, because no URL of these weights is known: get them "
                f"from {released.page} (license: {released.license}). Received: {name!r}."
            )
        name = released.url
    if name.startswith(_HUGGING_FACE):
        name = _hugging_face_url(name)
    if name.startswith("http://"):
        raise ValueError(f"`name` must be an encrypted URL, https://. Received: {name!r}.")
    path = fetch(name) if name.startswith(_URL_SCHEMES) else Path(name)
    if not path.exists():
        raise ValueError(
            f"`name` must be a file, a run's folder, a URL (https://, hf://), one of {', '.join(RELEASED_WEIGHTS)}, or "
            f"an architecture of the form vit_SIZE_patchP_S. Received: {name!r}."
        )
    return path


def load_preset(name: PathLike, sha256: str | None = None, **options: Any) -> keras.Model:
    """Load an encoder with weights; `ViTEncoder.from_preset` calls this for all names but architectures.

    Args:
        name: Key of `RELEASED_WEIGHTS`; path of a `.keras`, `.safetensors` or `.pth` file or of a run's folder; an
            https:// URL; or `hf://OWNER/REPOSITORY[/FILE]`, where FILE defaults to `model.safetensors`.
        sha256: str of 64 hexadecimal digits. SHA-256 sum that the file must have. Defaults to None, no check.
        **options: Arguments of `keras_siamim.convert.load_encoder`, for files of other formats than Keras's.

    Returns:
        A `ViTEncoder`, or the encoder that a `.keras` file holds.

    Raises:
        ValueError: If the name is unknown, its file has no known URL, or the SHA-256 sum differs.
        ConnectionError: If the download fails.
    """
    path = preset_path(name)
    if sha256 is not None:
        _check_sha256(path, sha256, fetched=path != Path(name))
    if path.is_dir() or path.suffix == ".keras":
        return _encoder_of(load_model(path))
    encoder, _ = load_weights_of_encoder(path, **options)
    return encoder


set_preset_loader(load_preset)


def fetch(url: str) -> Path:
    """Download a file to Keras's cache folder, unless it is there already.

    Args:
        url: str. URL of the file.

    Returns:
        Path of the file in the cache.

    Raises:
        ConnectionError: If the download fails.
    """
    # Many repositories use the same file name, so the cached name starts with a hash of the URL.
    fname = f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{urlsplit(url).path.rsplit('/', 1)[-1]}"
    try:
        return Path(keras.utils.get_file(fname, origin=url, cache_subdir="keras_siamim"))
    except Exception as error:  # Keras raises a bare Exception
        raise ConnectionError(
            f"Could not download {url}: {error} Without a network, get the file elsewhere and pass its path."
        ) from error


def _check_sha256(path: Path, sha256: str, fetched: bool) -> None:
    if path.is_dir():
        raise ValueError(f"`sha256` must be None for a folder. Received: {sha256} for {path}.")
    found = _sha256(path)
    if found != sha256.lower():
        if fetched:
            path.unlink()  # or the cache would serve it again
        raise ValueError(f"`sha256` must be the SHA-256 sum of {path}, {found}. Received: {sha256}.")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hugging_face_url(name: str) -> str:
    parts = name.removeprefix(_HUGGING_FACE).split("/")
    if len(parts) < 2 or not all(parts):
        raise ValueError(f"`name` must have the form hf://OWNER/REPOSITORY[/FILE]. Received: {name!r}.")
    owner, repository, *file = parts
    return f"https://huggingface.co/{owner}/{repository}/resolve/main/{'/'.join(file) or 'model.safetensors'}"
