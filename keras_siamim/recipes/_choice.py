"""Choice of a recipe and its settings for a set of images, with the reason of each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

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


def bytes_per_pair(recipe: Recipe) -> float:
    """Return an estimate of the memory in bytes that the activations of one training pair take.

    It counts the outputs that a block keeps for its gradient: about 18 numbers per channel of a token, and two per head
    and pair of tokens. View 2 has no gradient; its forward pass counts as one block.

    Args:
        recipe: A `Recipe` with masks and a decoder.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> round(bytes_per_pair(load_recipe("siamese_im_vit_tiny_32px")) / 2**20)
        11
    """
    values = recipe.keys()
    sides = recipe.image_size if isinstance(recipe.image_size, (tuple, list)) else (recipe.image_size,) * 2
    tokens = math.prod(side // values["encoder.patch_size"] for side in sides)

    def block(tokens, width, heads):
        return tokens * (18 * width + 2 * heads * tokens)

    width, heads = values["encoder.width"], values["encoder.num_heads"]
    visible = tokens * (1 - values.get("masking.mask_ratio", 0.0))
    numbers = values["encoder.depth"] * block(visible, width, heads) + block(tokens, width, heads)
    if "model.decoder_width" in values:
        decoder = block(tokens + visible, values["model.decoder_width"], values["model.decoder_heads"])
        numbers += (values["model.decoder_depth"] or 0) * decoder
    return (2 if "float16" in recipe.dtype else 4) * numbers


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
