"""Initial weights of a run from another model: a run, a `.keras` file, a preset, or a file of another program."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_siamim.backbones import ViTEncoder
from keras_siamim.backbones.dense import position_table
from keras_siamim.convert import load_encoder
from keras_siamim.convert.files import read_weights
from keras_siamim.convert.names import NameTable, to_keras
from keras_siamim.convert.objectives import NAMES
from keras_siamim.objectives.base import Objective
from keras_siamim.objectives.momentum import MomentumObjective
from keras_siamim.ops import interpolate_positions
from keras_siamim.presets import RUN_FILES, load_model, preset_path

# Constructor arguments that decide the shapes or the arithmetic of an encoder.
_SIZES = (
    *("patch_size", "width", "depth", "num_heads", "mlp_ratio"),
    *("stem", "widths", "depths", "channels"),
)
_POSITIONS = "position_embedding/embedding"


class InitialWeights(NamedTuple):
    """Weights to start a run from.

    Attributes:
        source: String, as the user gave it: a path, a preset or a URL.
        encoder: Encoder, the online one of a model with two.
        target: Encoder of the target branch, or None.
        model: Objective of this package with projector and decoder, or None.
        stored: Dictionary of arrays by the name of a program of the authors, or empty.
        sha256: String. SHA-256 sum of the file, or an empty string if the source is not a file.

    Example:
        >>> encoder = ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2)
        >>> InitialWeights("mine", encoder).target is None
        True
    """

    source: str
    encoder: keras.Model
    target: keras.Model | None = None
    model: Objective | None = None
    stored: Mapping[str, Any] = {}  # noqa: RUF012  a named tuple's default, which is never changed
    sha256: str = ""

    def apply(self, model: Objective) -> list[str]:
        """Set the weights of an untrained objective.

        The online encoder is always taken. Target, projector and decoder are taken where the source has them in the
        same sizes; a target that it lacks starts as a copy of the online branch.

        Args:
            model: Objective whose encoder has passed `check`.

        Returns:
            Lines of text: what was taken, and what starts anew.

        Raises:
            ValueError: As for `check`.
        """
        self.check(model.encoder)
        lines = [f"encoder: taken from {self.source}", *copy_encoder(self.encoder, model.encoder)]
        taken, new = self._copy_rest(model)
        if isinstance(model, MomentumObjective) and model.target is not None:
            rest = {name for name in (*taken, *new) if name.startswith("target/")}
            if self.target is None or rest - set(taken):
                model.reset_target()
                taken = [name for name in taken if name not in rest]
                new = [name for name in new if name not in rest]
                lines.append("target: starts as a copy of the online branch")
            else:
                copy_encoder(self.target, model.target.encoder)
                lines.append("target: taken, encoder and projector")
        lines += [
            f"{what}: {', '.join(names)}" for what, names in (("also taken", taken), ("starts anew", new)) if names
        ]
        return lines

    def check(self, encoder: keras.Model) -> None:
        """Raise unless the weights fit an encoder.

        Args:
            encoder: Encoder of the run.

        Raises:
            ValueError: If architecture, sizes or positions differ. The message has the options of `--set` to change.
        """
        if type(self.encoder) is not type(encoder):
            raise ValueError(
                f"`--init-from` must have the recipe's encoder, {type(encoder).__name__}. Received: {self.source}, "
                f"with {type(self.encoder).__name__}."
            )
        have, want = self.encoder.get_config(), encoder.get_config()
        names = [*_SIZES]
        if isinstance(encoder, ViTEncoder):
            scaled = have["layer_scale_init"] is not None, want["layer_scale_init"] is not None
            names += ["layer_scale_init"] if scaled[0] != scaled[1] else []
            # Learned positions can start from computed ones, but not the other way round.
            fixed = want["position_embedding"] == "sincos"
            names += ["position_embedding"] if fixed and have["position_embedding"] != "sincos" else []
            names += ["axis_order"] if fixed and have["position_embedding"] == "sincos" else []
        if differing := [name for name in names if have.get(name) != want.get(name)]:
            changes = " ".join(f"encoder.{name}={have[name]}" for name in differing)
            raise ValueError(
                f"`--init-from` must have an encoder of the recipe's sizes; --set {changes} would make them equal. "
                f"Received: {self.source}, where {', '.join(f'{name} is {have[name]}' for name in differing)}."
            )

    def _copy_rest(self, model):
        """Copy projector and decoder, layer by layer; return the names of those taken and of those left as they are."""
        taken, new = [], []
        for name, group in _groups(model).items():
            arrays = self._arrays_of(model, name, group)
            if arrays is None:
                new.append(name)
                continue
            for variable, array in zip(group.values(), arrays, strict=True):
                variable.assign(array)
            taken.append(name)
        return taken, new

    def _arrays_of(self, model, name, group):
        if self.model is not None:
            found = _groups(self.model).get(name, {}) if type(self.model) is type(model) else {}
            if {path: tuple(v.shape) for path, v in found.items()} != {
                path: tuple(v.shape) for path, v in group.items()
            }:
                return None
            return [ops.convert_to_numpy(found[path]) for path in group]
        slots = {id(slot.variable): (key, slot) for key, slot in _names_of(model).items()}
        try:
            pairs = [slots[id(variable)] for variable in group.values()]
            return [to_keras(self.stored[key], slot) for key, slot in pairs]
        except (KeyError, ValueError):  # a layer that the file lacks, or has in another size
            return None


def read_initial_weights(source: str, encoder: keras.Model) -> InitialWeights:
    """Read weights to start a run from.

    Args:
        source: String. Run folder, `.keras`, `.safetensors` or PyTorch file, or another name for
            `keras_siamim.presets.preset_path`, whose file is then read.
        encoder: Encoder of the run, whose number of heads holds for files that do not tell theirs.

    Returns:
        `InitialWeights`.

    Raises:
        ValueError: If the source is unknown or of an unknown kind.
        ConnectionError: If a download fails.
    """
    path = preset_path(source)
    if path.is_dir() or path.suffix == ".keras":
        file = next((path / name for name in reversed(RUN_FILES) if (path / name).is_file()), path)
        model = load_model(file)
        objective = model if isinstance(model, Objective) else None
        target = model.target.encoder if isinstance(model, MomentumObjective) and model.target is not None else None
        return InitialWeights(source, getattr(model, "encoder", model), target, objective, sha256=_sha256(file))
    stored = read_weights(path)
    has_target = any(name.startswith(("mm_", "momentum_encoder.")) for name in stored)
    branches = ("online", "target") if has_target else ("online",)
    encoders = [_encoder_of_file(path, branch, encoder) for branch in branches]
    return InitialWeights(source, encoders[0], encoders[1] if has_target else None, None, stored, _sha256(path))


def _encoder_of_file(path, branch, encoder):
    try:
        return load_encoder(path, branch=branch)[0]
    except ValueError as error:
        if "`num_heads`" not in str(error) or not isinstance(encoder, ViTEncoder):
            raise
    return load_encoder(path, num_heads=encoder.num_heads, branch=branch)[0]


def copy_encoder(source: keras.Model, encoder: keras.Model) -> list[str]:
    """Copy the weights of an encoder to one of equal sizes; positions are resized to its grid.

    Args:
        source: Encoder whose weights are read.
        encoder: Encoder whose weights are set.

    Returns:
        Lines of text about layers that only one of them has.

    Example:
        >>> first, second = (ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2) for _ in range(2))
        >>> copy_encoder(first, second)
        []
    """
    have, want = dict(_by_path(source)), dict(_by_path(encoder))
    positions = want.pop(_POSITIONS, None)
    have.pop(_POSITIONS, None)
    if positions is not None:
        table = position_table(source)
        if source.grid != encoder.grid:
            table = interpolate_positions(table, source.grid, encoder.grid)
        positions.assign(ops.convert_to_numpy(table)[None])
    for name in have.keys() & want.keys():
        want[name].assign(ops.convert_to_numpy(have[name]))
    lines = []
    if left := {name.split("/")[0] for name in have.keys() - want.keys()}:
        lines.append(f"left out, since the encoder has none: {', '.join(sorted(left))}")
    if new := {name.split("/")[0] for name in want.keys() - have.keys()}:
        lines.append(f"starts anew, since the source has none: {', '.join(sorted(new))}")
    return lines


def _by_path(model) -> Iterator[tuple[str, keras.Variable]]:
    """Return the weights with their paths below the model's own name."""
    for variable in model.weights:
        yield variable.path.split("/", 1)[1], variable


def _groups(model):
    """Return the weights outside the encoders, by layer and then by path."""
    found: dict[str, dict[str, keras.Variable]] = {}
    targets = model.target.encoder.weights if isinstance(model, MomentumObjective) and model.target is not None else []
    encoders = {id(weight) for weight in (*model.encoder.weights, *targets)}
    for path, variable in _by_path(model):
        parts = path.split("/")
        if id(variable) not in encoders and len(parts) > 1:  # counters of the model itself have no layer
            depth = 2 if parts[0] in ("online", "target") else 1
            found.setdefault("/".join(parts[:depth]), {})[path] = variable
    return found


def _names_of(model) -> NameTable:
    try:
        return NAMES[type(model)](model)
    except (KeyError, AttributeError):  # another objective, or an encoder that the authors' programs do not have
        return {}


def _sha256(path):
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
