"""The `Recipe`: all settings of one pre-training run."""

import dataclasses
import difflib
import inspect
import numbers
from collections.abc import Mapping
from typing import Any

from keras_siamim import objectives
from keras_siamim.backbones import ConvNeXtEncoder, ViTEncoder
from keras_siamim.data.masking import Masking
from keras_siamim.data.views.recipe import ViewRecipe
from keras_siamim.optimizers import AdamW
from keras_siamim.recipes._values import check_values
from keras_siamim.schedules import scaled_learning_rate

# Objectives by name.
OBJECTIVES = {"SiameseIM": objectives.SiameseIM, "MAE": objectives.MAE, "MoCoV3": objectives.MoCoV3}
# Encoders by name.
BACKBONES = {"ViT": ViTEncoder, "ConvNeXt": ConvNeXtEncoder}
# Objectives with single steps varied, built where a recipe's `model` names one of their arguments.
ABLATIONS = {"SiameseIM": objectives.SiameseIMAblation}
# Courses of the target momentum after its first value.
MOMENTUM_SCHEDULES = ("cosine", "constant")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of one pre-training run, except for the images and the devices.

    The dictionaries hold constructor arguments. An argument that is left out has its default.

    Args:
        objective: String. Name of the objective, a key of `OBJECTIVES`. Defaults to `"SiameseIM"`.
        backbone: String. Name of the encoder's architecture, a key of `BACKBONES`. Defaults to `"ViT"`.
        image_size: Integer or tuple (height, width). Size of both views in pixels. Defaults to 224.
        epochs: Positive integer. Number of passes over the images.
        warmup: Float in [0, 1). Fraction of the epochs with a rising learning rate. Defaults to 0.1.
        warmup_epochs: Float in [0, `epochs`). The same in epochs. Defaults to `warmup * epochs`.
        batch_size: Positive integer. Images per optimizer step, over all devices and accumulated batches.
        accumulation_steps: Positive integer. Batches per optimizer step, a divisor of `batch_size`. Defaults to 1.
        base_learning_rate: Positive float. Learning rate per 256 images of `batch_size`.
        target_momentum: Float in [0, 1]. Momentum of the target at the first step. None for objectives without a
            target. Defaults to 0.995.
        momentum_schedule: `"cosine"` raises the target momentum to 1 over the run, `"constant"` keeps it. Defaults to
            `"cosine"`.
        encoder: Dictionary. Arguments of the encoder. Defaults to none.
        model: Dictionary. Arguments of the objective. Defaults to none.
        optimizer: Dictionary. Arguments of `AdamW`. Defaults to none.
        view_1: Dictionary. Arguments of `ViewRecipe` for the online view. Defaults to none.
        view_2: Dictionary. Arguments of `ViewRecipe` for the target view. None for objectives with one view. Defaults
            to a blur probability of 0.1 and a solarization probability of 0.2.
        masking: Dictionary. Arguments of `Masking.of_ratio`. None for objectives without masks. Defaults to a mask
            ratio of 0.6.
        dtype: String. Name of a Keras dtype policy. Defaults to `"float32"`.
        seed: Non-negative integer. Seed of weights, data order, views and masks. Defaults to 0.

    Raises:
        ValueError: If a value is out of range. The message names the field.

    Example:
        >>> recipe = Recipe(epochs=2, batch_size=64, base_learning_rate=1e-3, encoder={"depth": 2})
        >>> recipe.override({"encoder.depth": 4}).encoder
        {'depth': 4}
    """

    objective: str = "SiameseIM"
    backbone: str = "ViT"
    image_size: int | tuple[int, int] = 224
    epochs: int
    warmup: float = 0.1
    warmup_epochs: float | None = None
    batch_size: int
    accumulation_steps: int = 1
    base_learning_rate: float
    target_momentum: float | None = 0.995
    momentum_schedule: str = "cosine"
    encoder: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    optimizer: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    view_1: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    view_2: Mapping[str, Any] | None = dataclasses.field(
        default_factory=lambda: {"blur_probability": 0.1, "solarize_probability": 0.2}
    )
    masking: Mapping[str, Any] | None = dataclasses.field(default_factory=lambda: {"mask_ratio": 0.6})
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values of all fields.

        Raises:
            ValueError: If a value is out of range. The message names the field.
        """
        if self.objective not in OBJECTIVES:
            raise ValueError(f"`objective` must be one of {', '.join(OBJECTIVES)}. Received: {self.objective!r}.")
        if self.backbone not in BACKBONES:
            raise ValueError(f"`backbone` must be one of {', '.join(BACKBONES)}. Received: {self.backbone!r}.")
        if self.momentum_schedule not in MOMENTUM_SCHEDULES:
            raise ValueError(
                f"`momentum_schedule` must be one of {', '.join(MOMENTUM_SCHEDULES)}. Received: "
                f"{self.momentum_schedule!r}."
            )
        check_values(self)
        if self.batch_size % self.accumulation_steps:
            raise ValueError(
                "`accumulation_steps` must divide `batch_size`. "
                f"Received: {self.accumulation_steps}, {self.batch_size}."
            )
        if not 0 <= self.rising_epochs < self.epochs:
            raise ValueError(
                "`warmup_epochs` must be non-negative and below `epochs`. "
                f"Received: {self.rising_epochs}, {self.epochs}."
            )

    @property
    def rising_epochs(self) -> float:
        """Length of the learning-rate warm-up in epochs."""
        return self.warmup * self.epochs if self.warmup_epochs is None else self.warmup_epochs

    @property
    def patch_size(self) -> int:
        """Side of a patch or grid cell in pixels: the unit of masking."""
        values = {**SECTIONS["encoder"](self), **self.encoder}
        if self.backbone == "ViT":
            return values["patch_size"]
        return values["stem"] * 2 ** (len(values["widths"]) - 1)

    @property
    def learning_rate(self) -> float:
        """Peak learning rate: the base learning rate scaled to the batch size."""
        return scaled_learning_rate(self.base_learning_rate, self.batch_size)

    def describe_learning_rate(self) -> str:
        """Return one line that derives the learning rate from the batch size.

        Example:
            >>> Recipe(epochs=2, batch_size=4096, base_learning_rate=6.25e-5).describe_learning_rate()
            'learning rate 0.001 = base 6.25e-05 x batch 4096 / 256'
        """
        rate, base = f"{self.learning_rate:.4g}", f"{self.base_learning_rate:.4g}"
        return f"learning rate {rate} = base {base} x batch {self.batch_size} / 256"

    def override(self, changes: Mapping[str, Any]) -> "Recipe":
        """Return a recipe with some values changed.

        Args:
            changes: Dictionary from keys to values. The key `"encoder.depth"` is the entry `depth` of `encoder`.
                Another `backbone` starts with an empty `encoder`, because its arguments are others.

        Returns:
            A new `Recipe`.

        Raises:
            ValueError: If a key is unknown, or a value differs in type from the current one. For an unknown key the
                message suggests the nearest one.

        Example:
            >>> recipe = Recipe(epochs=2, batch_size=64, base_learning_rate=1e-3)
            >>> recipe.override({"epochs": 3, "view_1.hue": 0.05}).epochs
            3
        """
        if changes.get("backbone", self.backbone) != self.backbone:
            other = dataclasses.replace(self, backbone=changes["backbone"], encoder={})
            return other.override({key: value for key, value in changes.items() if key != "backbone"})
        known = self.keys()
        fields: dict[str, Any] = {}
        for key, value in changes.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"`changes` must have keys of a {self.objective} recipe. Received: {key!r}.{hint}")
            _check_type(key, value, known[key])
            field, _, entry = key.partition(".")
            fields[field] = {**(fields.get(field) or getattr(self, field) or {}), entry: value} if entry else value
        return dataclasses.replace(self, **fields)

    def given_keys(self) -> set[str]:
        """Return the keys of all entries in this recipe's dictionaries.

        Example:
            >>> recipe = Recipe(epochs=2, batch_size=64, base_learning_rate=1e-3, view_2=None, masking=None)
            >>> recipe.override({"encoder.depth": 2}).given_keys()
            {'encoder.depth'}
        """
        sections = {name: getattr(self, name) or {} for name in SECTIONS}
        return {f"{name}.{entry}" for name, entries in sections.items() for entry in entries}

    def keys(self) -> dict[str, Any]:
        """Return every key that `override` accepts, with its value in this recipe.

        Example:
            >>> Recipe(epochs=2, batch_size=64, base_learning_rate=1e-3).keys()["encoder.depth"]
            12
        """
        values: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in SECTIONS:
                values[field.name] = value
            elif value is not None:
                defaults = SECTIONS[field.name](self)
                values |= {f"{field.name}.{name}": value.get(name, default) for name, default in defaults.items()}
        return values


def _arguments(function, *excluded):
    """Return the named arguments of a constructor with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    kept = [p for p in parameters if p.kind is not p.VAR_KEYWORD and p.name not in ("self", "name", *excluded)]
    return {p.name: None if p.default is p.empty else p.default for p in kept}


def _model_arguments(objective):
    found = _arguments(OBJECTIVES[objective], "encoder", "target_momentum")
    return found | (_arguments(ABLATIONS[objective], "encoder") if objective in ABLATIONS else {})


# Functions from a recipe to the permitted entries of each of its dictionaries, with their defaults.
SECTIONS = {
    "encoder": lambda recipe: _arguments(BACKBONES[recipe.backbone], "image_size"),
    "model": lambda recipe: _model_arguments(recipe.objective),
    "optimizer": lambda recipe: {**_arguments(AdamW, "learning_rate"), "global_clipnorm": None},
    "view_1": lambda recipe: _arguments(ViewRecipe),
    "view_2": lambda recipe: _arguments(ViewRecipe),
    "masking": lambda recipe: _arguments(Masking.of_ratio, "grid"),
}


def _check_type(key, value, current):
    """Raise `ValueError` if a new value is not of the kind (number, string, bool, pair) of the current one."""
    # Choices such as `model.loss` are given by name, or as a mapping with a configuration or with weights.
    kinds = {bool: bool, int: numbers.Real, float: numbers.Real, str: (str, Mapping), tuple: (tuple, list)}
    kind = kinds.get(type(current))
    wrong = kind and value is not None and (not isinstance(value, kind) or isinstance(value, bool) != (kind is bool))
    fractional = type(current) is int and isinstance(value, float) and not value.is_integer()
    if key == "image_size":
        wrong, fractional = not isinstance(value, (int, tuple, list)), False
    if wrong or fractional:
        raise ValueError(f"`{key}` must have the type of its current value, {current!r}. Received: {value!r}.")
