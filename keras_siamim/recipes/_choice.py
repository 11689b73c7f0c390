"""Choice of a recipe and its settings for a set of images, with the reason of each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from keras_siamim.callbacks.log_line import format_duration
from keras_siamim.recipes._cost import bytes_of_weights, bytes_per_pair, operations_per_pair
from keras_siamim.recipes._recipe import Recipe

# Images of CIFAR-10, whose number the epochs of the small recipes are made for.
IMAGES_OF_RECIPES = 50_000
# Times that one image may be seen: at most as often as in the paper's longest training.
FEWEST_EPOCHS, MOST_EPOCHS = 10, 1600
# Batches per epoch, at least, and the smallest batch: token BatchNorm and the negative term compare images of a batch.
BATCHES_PER_EPOCH, SMALLEST_BATCH = 8, 16
# Images from which ViT-Base is worth its cost.
MANY_IMAGES = 500_000
# Share of the free memory that activations may take.
MEMORY_SHARE = 0.5
# Share of the rate of large matrix products that training reaches on processors.
UTILIZATION = 0.45
# Keys of a recipe by the names of the settings in the reasons.
KEYS = {
    "image size": "image_size",
    "patch size": "encoder.patch_size",
    "epochs": "epochs",
    "batch size": "batch_size",
    "batches per step": "accumulation_steps",
}


@dataclasses.dataclass(frozen=True)
class Choice:
    """Recipe for a set of images.

    Attributes:
        recipe: String. Name of the recipe.
        changes: Dictionary. Values to change in it, by key.
        reasons: List of tuples of strings: what is chosen, the value, and why.
    """

    recipe: str
    changes: dict[str, Any]
    reasons: list[tuple[str, str, str]]


def choose_recipe(
    images: int,
    short_side: int,
    gray: bool,
    accelerator: bool,
    memory: float | None = None,
    values: Mapping[str, Any] | None = None,
) -> Choice:
    """Return the recipe for a set of images, with the changes that it needs, and the reasons.

    The README has the rules as a table.

    Args:
        images: Integer, 1 or more. Number of different readable images.
        short_side: Integer, 1 or more. Typical length of the shorter side of an image, in pixels.
        gray: Bool. True for images without color.
        accelerator: Bool. True if training runs on a GPU or TPU.
        memory: Float. Free memory for training in bytes. Defaults to None, unknown.
        values: Dictionary of values of the user by key of the recipe. They win, and what is chosen fits them. Defaults
            to none.

    Raises:
        ValueError: If a key or a value is invalid, or a value asks for another backbone than a ViT.

    Example:
        >>> choice = choose_recipe(300, short_side=500, gray=False, accelerator=False, values={"epochs": 6})
        >>> choice.recipe, choice.changes["image_size"], choice.changes["epochs"], choice.changes["batch_size"]
        ('siamese_im_vit_mini_32px', 64, 6, 32)
    """
    from keras_siamim.recipes import load_recipe

    values = dict(values or {})
    if values.get("backbone", "ViT") != "ViT":
        raise ValueError(
            "`backbone` must be given with a recipe, such as siamese_im_convnext_mini_64px, since a ViT is chosen. "
            f"Received: {values['backbone']!r}."
        )
    name, size, patch, reasons = _architecture(images, short_side, accelerator, values)
    recipe = load_recipe(name)
    chosen: dict[str, Any] = {"image_size": size, "encoder.patch_size": patch}
    if not name.endswith("ep"):  # the recipes of the paper have the epochs of the paper
        chosen["epochs"], why = _epochs(recipe, images)
        reasons.append(("epochs", f"{chosen['epochs']:,}", why))
    fitting = 2 ** int(math.log2(max(images / BATCHES_PER_EPOCH, 1)))
    chosen["batch_size"] = batch = min(recipe.batch_size, max(fitting, SMALLEST_BATCH), images)
    why = "that of the recipe" if batch == recipe.batch_size else f"{images // batch} batches per epoch"
    reasons.append(("batch size", str(batch), why))
    resolved = recipe.override({**chosen, **values})
    if memory is not None and "accumulation_steps" not in values:
        chosen["accumulation_steps"], why = _batches_per_step(resolved, memory)
        reasons += [("batches per step", str(chosen["accumulation_steps"]), why)] if why else []
    if gray:
        views = ("view_1",) if recipe.view_2 is None else ("view_1", "view_2")
        chosen |= {f"{view}.{key}": 0.0 for view in views for key in ("saturation", "hue", "gray_probability")}
        reasons.append(("colors", "brightness and contrast only", "the images are gray"))
    known = recipe.keys()
    changes = {key: value for key, value in chosen.items() if value != known[key]}
    return Choice(name, {**changes, **values}, _with_values(reasons, values))


def _with_values(reasons, values):
    """Return the reasons with the values of the user, also of keys for which nothing is chosen."""
    names = {key: name for name, key in KEYS.items()}
    rows = {names.get(key, key): str(value) for key, value in values.items()}
    chosen = [
        (name, rows.pop(name), "your value") if name in rows else (name, value, why) for name, value, why in reasons
    ]
    return [*chosen, *((name, value, "your value") for name, value in rows.items())]


def _epochs(recipe, images):
    pairs = recipe.epochs * IMAGES_OF_RECIPES
    epochs = min(max(round(pairs / images), FEWEST_EPOCHS), MOST_EPOCHS)
    limited = {
        FEWEST_EPOCHS: ", but at least 10 epochs",
        MOST_EPOCHS: ", but at most 1,600 epochs, as in the paper",
    }
    return epochs, f"{pairs:,} training pairs, as the recipe has on CIFAR-10{limited.get(epochs, '')}"


def _batches_per_step(recipe, memory):
    """Return the batches per optimizer step that keep activations in the free memory, and the reason for several."""
    batch, steps = recipe.batch_size, 1
    need = batch * bytes_per_pair(recipe)
    while need / steps > MEMORY_SHARE * memory and batch % (2 * steps) == 0:
        steps *= 2
    why = f"a batch needs about {_gibibytes(need)}, and half of the free {_gibibytes(memory)} may be used"
    return steps, why if steps > 1 else ""


def expected_cost(
    recipe: Recipe, images: int, rate: float | None = None, memory: float | None = None
) -> list[tuple[str, str, str]]:
    """Return rows like those of `Choice.reasons` with the memory and the time that training takes.

    The README has the rules.

    Args:
        recipe: A `Recipe`.
        images: Integer. Number of training images.
        rate: Float. Operations per second of matrix products on this machine. Defaults to None, unknown: the time is
            left to the first steps of training.
        memory: Float. Free memory for training in bytes. Defaults to None, unknown.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> rows = expected_cost(load_recipe("siamese_im_vit_mini_32px"), 50_000, rate=1e11, memory=2**32)
        >>> [(name, value) for name, value, _ in rows]
        [('memory', '483 MiB'), ('time', 'about 2.0 h')]
    """
    activations = recipe.batch_size // recipe.accumulation_steps * bytes_per_pair(recipe)
    weights = bytes_of_weights(recipe)
    free = "" if memory is None else f"; {_gibibytes(memory)} are free"
    why = f"{_gibibytes(activations)} for activations, {_gibibytes(weights)} for weights and their moments{free}"
    rows = [("memory", _gibibytes(activations + weights), why)]
    if rate is None:
        return [*rows, ("time", "unknown", "the first steps of training measure it")]
    pairs = recipe.epochs * (images // recipe.batch_size * recipe.batch_size)
    seconds = pairs * operations_per_pair(recipe) / (UTILIZATION * rate)
    why = f"at {UTILIZATION:.0%} of the {rate / 1e9:.0f} GFLOP/s of matrix products; the first steps measure it"
    return [*rows, ("time", f"about {format_duration(seconds)}", why)]


def _gibibytes(count):
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _architecture(images, short_side, accelerator, values):
    """Return the name of a recipe, the image size, the patch size, and the reasons."""
    if accelerator and short_side >= 160 and images >= MANY_IMAGES:
        why = f"{images:,} large images and an accelerator: the encoder of the paper"
        name, size, grid = "siamese_im_vit_base_400ep", 224, 14
    elif accelerator:
        size = 32 if short_side < 48 else 64 if short_side < 160 else 128
        name, grid = f"siamese_im_vit_tiny_{min(size, 64)}px", 8
        why = f"{images:,} images and an accelerator: a small encoder, which trains in hours"
    else:
        size = 32 if short_side < 48 else 64
        name, grid = "siamese_im_vit_mini_32px", 8
        why = "no accelerator was found: the narrowest encoder, which trains on a processor"
    patch = size // grid
    if isinstance(given := values.get("image_size"), int) and given >= grid and given % grid == 0:
        patch = given // grid
    side = f"shorter sides have {short_side} pixels"
    cells = f"{grid} x {grid} patches, as in the recipe"
    return (
        name,
        size,
        patch,
        [("recipe", name, why), ("image size", str(size), side), ("patch size", str(patch), cells)],
    )
