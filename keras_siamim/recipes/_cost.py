"""Cost of a recipe with a ViT: its numbers of weights, of operations and of bytes, from its shapes."""

from __future__ import annotations

import math
from typing import NamedTuple

from keras_siamim.recipes._recipe import Recipe


class _Shapes(NamedTuple):
    tokens: int  # patches of a view
    visible: int  # patches of the masked view
    pixels: int  # values of a patch
    encoder: tuple[int, int, int]  # blocks, width, heads
    projector: tuple[int, int, int]
    decoder: tuple[int, int, int]


def _shapes(recipe):
    values = recipe.keys()
    sides = recipe.image_size if isinstance(recipe.image_size, (tuple, list)) else (recipe.image_size,) * 2
    patch = values["encoder.patch_size"]
    tokens = math.prod(side // patch for side in sides)
    width, heads = (values.get(f"model.decoder_{name}") or 0 for name in ("width", "heads"))
    depths = (values.get(f"model.{name}_depth") or 0 for name in ("projector", "decoder"))
    return _Shapes(
        tokens,
        round(tokens * (1 - values.get("masking.mask_ratio", 0.0))),
        3 * patch**2,
        (values["encoder.depth"], values["encoder.width"], values["encoder.num_heads"]),
        *((depth, width, heads) for depth in depths),
    )


def bytes_per_pair(recipe: Recipe) -> float:
    """Return an estimate of the memory in bytes that the activations of one training pair take.

    It counts the outputs that a block keeps for its gradient: about 18 numbers per channel of a token, and two per head
    and pair of tokens. View 2 has no gradient; its forward pass counts as one block. PyTorch keeps from 5% less than
    the estimate to a quarter less.

    Args:
        recipe: A `Recipe` with a ViT.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> round(bytes_per_pair(load_recipe("siamese_im_vit_tiny_32px")) / 2**20)
        11
    """
    tokens, visible, _, (depth, *encoder), _, (decoder_depth, *decoder) = _shapes(recipe)

    def block(tokens, width, heads):
        return tokens * (18 * width + 2 * heads * tokens)

    numbers = depth * block(visible, *encoder) + block(tokens, *encoder)
    numbers += decoder_depth * block(tokens + visible, *decoder)
    return (2 if "float16" in recipe.dtype else 4) * numbers


def bytes_of_weights(recipe: Recipe) -> float:
    """Return an estimate of the memory in bytes of weights, gradients, two moments of AdamW, and target weights.

    Args:
        recipe: A `Recipe` with a ViT.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> round(bytes_of_weights(load_recipe("siamese_im_vit_base_400ep")) / 2**30, 1)
        2.3
    """
    shapes = _shapes(recipe)

    def blocks(depth, width, heads):
        return 12 * depth * width**2

    width, decoder_width = shapes.encoder[1], shapes.decoder[1]
    branch = blocks(*shapes.encoder) + shapes.pixels * width + width * decoder_width + blocks(*shapes.projector)
    online = branch + blocks(*shapes.decoder) + 5 * decoder_width**2
    return 4 * (4 * online + (0 if recipe.target_momentum is None else branch))


def operations_per_pair(recipe: Recipe) -> float:
    """Return an estimate of the floating-point operations of the matrix products of one training pair.

    The backward pass takes twice the forward pass. View 2 has a forward pass alone.

    Args:
        recipe: A `Recipe` with a ViT.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> round(operations_per_pair(load_recipe("siamese_im_vit_mini_32px")) / 1e9, 2)
        0.47
    """
    shapes = _shapes(recipe)

    def blocks(tokens, depth, width, heads):
        return depth * (24 * tokens * width**2 + 4 * tokens**2 * width)

    def branch(tokens):
        between = 2 * tokens * shapes.encoder[1] * shapes.decoder[1]
        return blocks(tokens, *shapes.encoder) + between + blocks(tokens, *shapes.projector)

    online = branch(1 + shapes.visible) + blocks(1 + shapes.visible + shapes.tokens, *shapes.decoder)
    return 3 * online + (0 if recipe.target_momentum is None else branch(1 + shapes.tokens))
