"""Cost of a recipe: its numbers of weights, of operations and of bytes, from its shapes."""

from __future__ import annotations

import math
from typing import NamedTuple

from keras_siamim.recipes._recipe import Recipe


class _Blocks(NamedTuple):
    """Transformer blocks of one width."""

    depth: int
    width: int
    heads: int

    def weights(self):
        return 12 * self.depth * self.width**2

    def operations(self, tokens):
        return self.depth * (24 * tokens * self.width**2 + 4 * tokens**2 * self.width)

    def kept(self, tokens, depth=None):
        """Numbers that blocks keep for their gradient: about 18 per channel, and two per head and pair of tokens."""
        return (self.depth if depth is None else depth) * tokens * (18 * self.width + 2 * self.heads * tokens)


class _Stages(NamedTuple):
    """Stages of a ConvNeXt. A cell of the grid has `4 ** (stages - 1 - index)` positions in a stage."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def width(self):
        return self.widths[-1]

    def _sum(self, function):
        last = len(self.widths) - 1
        stages = enumerate(zip(self.depths, self.widths, strict=True))
        return sum(depth * function(4 ** (last - index), width) for index, (depth, width) in stages)

    def weights(self):
        return self._sum(lambda positions, width: 8 * width**2 + 49 * width)

    def operations(self, tokens):
        return tokens * self._sum(lambda positions, width: positions * (16 * width**2 + 98 * width))

    def kept(self, tokens, depth=None):
        """Numbers that blocks keep for their gradient, about 22 per channel: five of the MLP's four-fold width."""
        found = tokens * self._sum(lambda positions, width: 22 * positions * width)
        return found if depth is None else found * depth / sum(self.depths)


class _Shapes(NamedTuple):
    tokens: int  # patches of a view
    visible: int  # patches of the masked view
    pixels: int  # values that the first layer embeds
    encoder: _Blocks | _Stages
    projector: _Blocks
    decoder: _Blocks


def _shapes(recipe):
    values = recipe.keys()
    sides = recipe.image_size if isinstance(recipe.image_size, (tuple, list)) else (recipe.image_size,) * 2
    tokens = math.prod(side // recipe.patch_size for side in sides)
    width, heads = (values.get(f"model.decoder_{name}") or 0 for name in ("width", "heads"))
    depths = (values.get(f"model.{name}_depth") or 0 for name in ("projector", "decoder"))
    if recipe.backbone == "ViT":
        encoder = _Blocks(*(values[f"encoder.{name}"] for name in ("depth", "width", "num_heads")))
        first = recipe.patch_size
    else:
        encoder, first = _Stages(values["encoder.depths"], values["encoder.widths"]), values["encoder.stem"]
    return _Shapes(
        tokens,
        round(tokens * (1 - values.get("masking.mask_ratio", 0.0))),
        3 * first**2,
        encoder,
        *(_Blocks(depth, width, heads) for depth in depths),
    )


def bytes_per_pair(recipe: Recipe) -> float:
    """Return an estimate of the memory in bytes that the activations of one training pair take.

    It counts the outputs that a block keeps for its gradient: for a ViT about 18 numbers per channel of a token, and
    two per head and pair of tokens; for a ConvNeXt about 22 per channel of a position. View 2 has no gradient; its
    forward pass counts as one block. PyTorch keeps from 5% less than the estimate to a quarter less with a ViT.

    Args:
        recipe: A `Recipe`.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> round(bytes_per_pair(load_recipe("siamese_im_vit_tiny_32px")) / 2**20)
        11
    """
    tokens, visible, _, encoder, _, decoder = _shapes(recipe)
    numbers = encoder.kept(visible) + encoder.kept(tokens, depth=1) + decoder.kept(tokens + visible)
    return (2 if "float16" in recipe.dtype else 4) * numbers


def bytes_of_weights(recipe: Recipe) -> float:
    """Return an estimate of the memory in bytes of weights, gradients, two moments of AdamW, and target weights.

    Args:
        recipe: A `Recipe`.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> round(bytes_of_weights(load_recipe("siamese_im_vit_base_400ep")) / 2**30, 1)
        2.3
    """
    _, _, pixels, encoder, projector, decoder = _shapes(recipe)
    branch = encoder.weights() + pixels * encoder.width + encoder.width * decoder.width + projector.weights()
    online = branch + decoder.weights() + 5 * decoder.width**2
    return 4 * (4 * online + (0 if recipe.target_momentum is None else branch))


def operations_per_pair(recipe: Recipe) -> float:
    """Return an estimate of the floating-point operations of the matrix products of one training pair.

    The backward pass takes twice the forward pass. View 2 has a forward pass alone.

    Args:
        recipe: A `Recipe`.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> round(operations_per_pair(load_recipe("siamese_im_vit_mini_32px")) / 1e9, 2)
        0.47
    """
    tokens, visible, _, encoder, projector, decoder = _shapes(recipe)

    def branch(tokens):
        return encoder.operations(tokens) + 2 * tokens * encoder.width * decoder.width + projector.operations(tokens)

    online = branch(1 + visible) + decoder.operations(1 + visible + tokens)
    return 3 * online + (0 if recipe.target_momentum is None else branch(1 + tokens))
