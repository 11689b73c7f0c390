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

    def override(self, values: Mapping[str, Any]) -> Choice:
        """Return the choice with values of the user, which win.

        Args:
            values: Dictionary of values by key of the recipe.

        Example:
            >>> choice = Choice("digits_tiny", {"epochs": 1600}, [("epochs", "1,600", "few images")])
            >>> choice.override({"epochs": 6}).reasons
            [('epochs', '6', 'your value')]
        """
        # The chosen batches per step belong to the chosen batch size.
        dropped = {"accumulation_steps"} - set(values) if "batch_size" in values else set()
        changes = {key: value for key, value in self.changes.items() if key not in dropped}
        reasons = [
            (name, str(values[KEYS[name]]), "your value") if KEYS.get(name) in values else (name, value, why)
            for name, value, why in self.reasons
            if KEYS.get(name) not in dropped
        ]
        return Choice(self.recipe, {**changes, **values}, reasons)


def choose_recipe(images: int, short_side: int, gray: bool, accelerator: bool, memory: float | None = None) -> Choice:
    """Return the recipe for a set of images, with the changes that it needs, and the reasons.

    The README has the rules as a table.

    Args:
        images: Integer, 1 or more. Number of different readable images.
        short_side: Integer, 1 or more. Typical length of the shorter side of an image, in pixels.
        gray: Bool. True for images without color.
        accelerator: Bool. True if training runs on a GPU or TPU.
        memory: Float. Free memory for training in bytes. Defaults to None, unknown.

    Example:
        >>> choice = choose_recipe(images=300, short_side=500, gray=False, accelerator=False)
        >>> choice.recipe, choice.changes["image_size"], choice.changes["epochs"], choice.changes["batch_size"]
        ('siamese_im_vit_mini_32px', 64, 1600, 32)
    """
    from keras_siamim.recipes import load_recipe

    name, size, patch, reasons = _architecture(images, short_side, accelerator)
    recipe = load_recipe(name)
    changes: dict[str, Any] = {}
    if recipe.image_size != size:
        changes |= {"image_size": size, "encoder.patch_size": patch}
    if not name.endswith("ep"):  # the recipes of the paper have the epochs of the paper
        pairs = recipe.epochs * IMAGES_OF_RECIPES
        epochs = min(max(round(pairs / images), FEWEST_EPOCHS), MOST_EPOCHS)
        changes |= {} if epochs == recipe.epochs else {"epochs": epochs}
        limited = {
            FEWEST_EPOCHS: ", but at least 10 epochs",
            MOST_EPOCHS: ", but at most 1,600 epochs, as in the paper",
        }
        why = f"{pairs:,} training pairs, as the recipe has on CIFAR-10{limited.get(epochs, '')}"
        reasons.append(("epochs", f"{epochs:,}", why))
    fitting = 2 ** int(math.log2(max(images / BATCHES_PER_EPOCH, 1)))
    batch = min(recipe.batch_size, max(fitting, SMALLEST_BATCH), images)
    why = "that of the recipe" if batch == recipe.batch_size else f"{images // batch} batches per epoch"
    changes |= {} if batch == recipe.batch_size else {"batch_size": batch}
    reasons.append(("batch size", str(batch), why))
    if memory is not None:
        need, steps = batch * bytes_per_pair(recipe.override(changes)), 1
        while need / steps > MEMORY_SHARE * memory and batch % (2 * steps) == 0:
            steps *= 2
        if steps > 1:
            changes["accumulation_steps"] = steps
            why = (
                f"a batch needs about {need / 2**30:.1f} GiB, and half of the free {memory / 2**30:.1f} GiB may be used"
            )
            reasons.append(("batches per step", str(steps), why))
    if gray:
        views = ("view_1",) if recipe.view_2 is None else ("view_1", "view_2")
        changes |= {f"{view}.{key}": 0.0 for view in views for key in ("saturation", "hue", "gray_probability")}
        reasons.append(("colors", "brightness and contrast only", "the images are gray"))
    return Choice(name, changes, reasons)


def expected_cost(
    recipe: Recipe, images: int, rate: float | None = None, memory: float | None = None
) -> list[tuple[str, str, str]]:
    """Return rows like those of `Choice.reasons` with the memory and the time that training takes.

    The README has the rules.

    Args:
        recipe: A `Recipe` with a ViT.
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


def _architecture(images, short_side, accelerator):
    """Return the name of a recipe, the image size, the patch size, and the reasons."""
    if accelerator and short_side >= 160 and images >= MANY_IMAGES:
        why = f"{images:,} large images and an accelerator: the encoder of the paper"
        name, size, patch = "siamese_im_vit_base_400ep", 224, 16
    elif accelerator:
        size = 32 if short_side < 48 else 64 if short_side < 160 else 128
        name, patch = f"siamese_im_vit_tiny_{min(size, 64)}px", size // 8
        why = f"{images:,} images and an accelerator: a small encoder, which trains in hours"
    else:
        size = 32 if short_side < 48 else 64
        name, patch = "siamese_im_vit_mini_32px", size // 8
        why = "no accelerator was found: the narrowest encoder, which trains on a processor"
    side = f"shorter sides have {short_side} pixels"
    grid = f"{size // patch} x {size // patch} patches, as in the recipe"
    return name, size, patch, [("recipe", name, why), ("image size", str(size), side), ("patch size", str(patch), grid)]
