"""A recipe: how to train, as data."""

import dataclasses
import difflib
import inspect
import numbers
from collections.abc import Mapping

from keras_siamim import objectives
from keras_siamim.backbones import ViTEncoder
from keras_siamim.data.masking import Masking
from keras_siamim.data.views.recipe import ViewRecipe
from keras_siamim.optimizers import AdamW
from keras_siamim.recipes._values import check_values
from keras_siamim.schedules import scaled_learning_rate

# Objectives by name.
OBJECTIVES = {"SiameseIM": objectives.SiameseIM, "MAE": objectives.MAE, "MoCoV3": objectives.MoCoV3}
# Objectives with single steps varied, built where a recipe's `model` names one of their arguments.
ABLATIONS = {"SiameseIM": objectives.SiameseIMAblation}
# How the target's momentum goes on from its first value.
MOMENTUM_SCHEDULES = ("cosine", "constant")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that one pre-training run is made of, but the images and the machine.

    The dictionaries hold constructor arguments that differ from the defaults of what they are named after.

    Args:
        objective: Name in `OBJECTIVES`.
        image_size: Pixels of both views, a number or (height, width).
        epochs: Passes over the images.
        warmup: Share of the epochs in which the learning rate rises, in [0, 1).
        warmup_epochs: The same in epochs, may be a fraction, below `epochs`. Defaults to `warmup * epochs`.
        batch_size: Images of one optimizer step, over all devices and accumulated batches.
        accumulation_steps: Batches whose gradients make one optimizer step; must divide `batch_size`.
        base_learning_rate: Per 256 images of `batch_size`.
        target_momentum: At the first step. None for objectives without a target.
        momentum_schedule: `"cosine"` takes it to 1 over the run, `"constant"` leaves it.
        encoder: Arguments of `ViTEncoder`.
        model: Arguments of the objective.
        optimizer: Arguments of `AdamW`.
        view_1: Arguments of `ViewRecipe` for the online view.
        view_2: The same for the target view, or None for objectives with one view.
        masking: Arguments of `Masking.of_ratio`, or None for objectives without masks.
        dtype: Keras dtype policy.
        seed: Of weights, order, views and masks.
    """

    objective: str = "SiameseIM"
    image_size: int | tuple[int, int] = 224
    epochs: int
    warmup: float = 0.1
    warmup_epochs: float | None = None
    batch_size: int
    accumulation_steps: int = 1
    base_learning_rate: float
    target_momentum: float | None = 0.995
    momentum_schedule: str = "cosine"
    encoder: Mapping = dataclasses.field(default_factory=dict)
    model: Mapping = dataclasses.field(default_factory=dict)
    optimizer: Mapping = dataclasses.field(default_factory=dict)
    view_1: Mapping = dataclasses.field(default_factory=dict)
    view_2: Mapping | None = dataclasses.field(
        default_factory=lambda: {"blur_probability": 0.1, "solarize_probability": 0.2}
    )
    masking: Mapping | None = dataclasses.field(default_factory=lambda: {"mask_ratio": 0.6})
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self):
        """Refuse names and numbers that no run can have.

        Raises:
            ValueError: Naming the field.
        """
        if self.objective not in OBJECTIVES:
            raise ValueError(f"`objective` must be one of {', '.join(OBJECTIVES)}. Received: {self.objective!r}.")
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
                f"`warmup_epochs` must be 0 or more and below `epochs`. Received: {self.rising_epochs}, {self.epochs}."
            )

    @property
    def rising_epochs(self):
        """Epochs in which the learning rate rises, a float."""
        return self.warmup * self.epochs if self.warmup_epochs is None else self.warmup_epochs

    @property
    def learning_rate(self):
        """Highest learning rate: the base rate scaled to the batch."""
        return scaled_learning_rate(self.base_learning_rate, self.batch_size)

    def describe_learning_rate(self):
        """One line that shows how the rate follows from the batch.

        Example:
            >>> Recipe(epochs=2, batch_size=4096, base_learning_rate=6.25e-5).describe_learning_rate()
            'learning rate 0.001 = base 6.25e-05 x batch 4096 / 256'
        """
        rate, base = f"{self.learning_rate:.4g}", f"{self.base_learning_rate:.4g}"
        return f"learning rate {rate} = base {base} x batch {self.batch_size} / 256"

    def override(self, changes):
        """A recipe with some values changed.

        Args:
            changes: Dictionary from keys to values; `"encoder.depth"` is the entry `depth` of the field `encoder`.

        Returns:
            A new `Recipe`.

        Raises:
            ValueError: For an unknown key, naming the nearest one, or a value of another type than it has now.
        """
        known = self.keys()
        fields = {}
        for key, value in changes.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"{key!r} is no key of a recipe for {self.objective}.{hint}")
            _check_type(key, value, known[key])
            field, _, entry = key.partition(".")
            fields[field] = {**(fields.get(field) or getattr(self, field) or {}), entry: value} if entry else value
        return dataclasses.replace(self, **fields)

    def given_keys(self):
        """The entries that this recipe gives in its dictionaries, as keys."""
        sections = {name: getattr(self, name) or {} for name in SECTIONS}
        return {f"{name}.{entry}" for name, entries in sections.items() for entry in entries}

    def keys(self):
        """Every key that can be overridden, with its value in this recipe."""
        values = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in SECTIONS:
                values[field.name] = value
            elif value is not None:
                defaults = SECTIONS[field.name](self)
                values |= {f"{field.name}.{name}": value.get(name, default) for name, default in defaults.items()}
        return values


def _arguments(function, *left_out):
    """Named arguments of a constructor and their defaults."""
    parameters = inspect.signature(function).parameters.values()
    kept = [p for p in parameters if p.kind is not p.VAR_KEYWORD and p.name not in ("self", "name", *left_out)]
    return {p.name: None if p.default is p.empty else p.default for p in kept}


def _model_arguments(objective):
    variants = [OBJECTIVES[objective], *filter(None, [ABLATIONS.get(objective)])]
    return {
        name: value for variant in variants for name, value in _arguments(variant, "encoder", "target_momentum").items()
    }


# The dictionaries of a recipe and what may stand in them.
SECTIONS = {
    "encoder": lambda recipe: _arguments(ViTEncoder, "image_size"),
    "model": lambda recipe: _model_arguments(recipe.objective),
    "optimizer": lambda recipe: {**_arguments(AdamW, "learning_rate"), "global_clipnorm": None},
    "view_1": lambda recipe: _arguments(ViewRecipe),
    "view_2": lambda recipe: _arguments(ViewRecipe),
    "masking": lambda recipe: _arguments(Masking.of_ratio, "grid"),
}


def _check_type(key, value, current):
    """Refuse a value that is no number, text, flag or pair where the recipe has one.

    Where it has the name of a choice, the choice itself or weights of several may stand too.
    """
    kinds = {bool: bool, int: numbers.Real, float: numbers.Real, str: (str, Mapping), tuple: (tuple, list)}
    kind = kinds.get(type(current))
    wrong = kind and value is not None and (not isinstance(value, kind) or isinstance(value, bool) != (kind is bool))
    whole = type(current) is int and isinstance(value, float) and not value.is_integer()
    if key == "image_size":
        wrong, whole = not isinstance(value, (int, tuple, list)), False
    if wrong or whole:
        raise ValueError(f"`{key}` is {current!r} in this recipe. Received a value of another type: {value!r}.")
