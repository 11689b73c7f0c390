"""ViT for large images: attention in windows, and over the whole map in a few blocks."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_siamim.arguments import height_and_width, whole_number
from keras_siamim.backbones import ViTEncoder
from keras_siamim.backbones.dense import check_encoder, copy_blocks, position_table
from keras_siamim.layers import DecomposedAttention, LearnedPositions, PatchEmbedding
from keras_siamim.layers.block import encoder_blocks
from keras_siamim.layers.patch_embedding import checked_grid

WINDOW_SIZE = 14


def default_global_blocks(depth: int) -> tuple[int, ...]:
    """Return the blocks, counted from 0, that attend globally: the last one of each quarter of the depth.

    Args:
        depth: int. Number of blocks.

    Returns:
        At most four ints; quarters are rounded to whole blocks, halves up.

    Example:
        >>> default_global_blocks(12), default_global_blocks(6)
        ((2, 5, 8, 11), (1, 2, 4, 5))
    """
    return tuple(sorted({max(1, int(depth * quarter / 4 + 0.5)) - 1 for quarter in range(1, 5)}))


@keras.saving.register_keras_serializable(package="keras_siamim")
class WindowedViT(keras.layers.Layer):
    """ViT from images to one map, the raw output of its last block (ViTDet, arXiv 2203.16527).

    It differs from a `ViTEncoder`: there is no class token and no final norm, most blocks attend within windows, all
    have decomposed relative positions, and positions are a trainable table of the pre-training grid, resized to each
    image.

    Args:
        image_size: (height, width) of the images in pixels for which global relative positions are made. Images of
            other sizes are accepted.
        patch_size: int. Side of a patch in pixels.
        width: int. Channels.
        depth: int. Number of blocks.
        num_heads: int. Attention heads.
        position_grid: (rows, columns) of the position table.
        window_size: int. Side of a window in patches. Defaults to 14.
        global_blocks: Sequence of ints in [0, depth). Blocks with global attention. Defaults to
            `default_global_blocks`.
        mlp_ratio: float. Hidden width of the MLPs over `width`. Defaults to 4.
        layer_scale_init: float. Initial value of LayerScale. Defaults to None, no LayerScale.
        drop_path_rate: float in [0, 1). Stochastic depth of the last block; it rises linearly from 0. Defaults to 0.1.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        images: (batch, height, width, channels) float, normalized, channels last.

    Returns:
        (batch, rows, columns, width).

    Raises:
        ValueError: If sizes do not fit, or a global block is no block.

    Example:
        >>> from keras_siamim.detection.backbone import WindowedViT
        >>> backbone = WindowedViT((48, 48), 8, width=8, depth=2, num_heads=2, position_grid=(2, 2), window_size=4)
        >>> tuple(backbone(keras.ops.zeros((1, 48, 32, 3))).shape)
        (1, 6, 4, 8)
    """

    def __init__(
        self,
        image_size: Sequence[int],
        patch_size: int,
        width: int,
        depth: int,
        num_heads: int,
        position_grid: Sequence[int],
        window_size: int = WINDOW_SIZE,
        global_blocks: Sequence[int] | None = None,
        mlp_ratio: float = 4,
        layer_scale_init: float | None = None,
        drop_path_rate: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.image_size = height_and_width("image_size", tuple(image_size))
        self.grid = checked_grid(*self.image_size, patch_size)
        self.patch_size = patch_size
        self.width = width
        self.depth = depth
        self.num_heads = num_heads
        self.position_grid = height_and_width("position_grid", tuple(position_grid))
        self.window_size = whole_number("window_size", window_size)
        chosen = default_global_blocks(depth) if global_blocks is None else global_blocks
        self.global_blocks = tuple(int(index) for index in chosen)
        if not all(0 <= index < depth for index in self.global_blocks):
            raise ValueError(f"`global_blocks` must be in [0, {depth}). Received: {list(self.global_blocks)}.")
        self.mlp_ratio = mlp_ratio
        self.layer_scale_init = layer_scale_init
        self.drop_path_rate = drop_path_rate
        policy = self.dtype_policy
        # The names are those that layer-wise learning rate decay looks for.
        self.patch_embedding = PatchEmbedding(width, patch_size, "channels_last", dtype=policy, name="patch_embedding")
        self.positions = LearnedPositions(width, self.position_grid, dtype=policy, name="position_embedding")
        self.blocks = encoder_blocks(
            depth,
            num_heads,
            mlp_ratio,
            layer_scale_init,
            drop_path_rate,
            policy,
            lambda index: self._attention(index in self.global_blocks),
        )

    def _attention(self, everywhere):
        window = None if everywhere else self.window_size
        grid = self.grid if everywhere else (self.window_size, self.window_size)
        return DecomposedAttention(self.num_heads, grid, window, dtype=self.dtype_policy, name="attention")

    def build(self, images_shape):
        self.patch_embedding.build(images_shape)
        self.positions.build()
        for block in self.blocks:
            block.build((None, *self.patch_embedding.grid(images_shape), self.width))

    def load(self, encoder: ViTEncoder) -> None:
        """Copy the weights of a pre-trained encoder, without its class token and final norm.

        Args:
            encoder: `ViTEncoder` with the sizes of this layer and positions of `position_grid`.
        """
        self.positions.embedding.assign(position_table(encoder)[None])
        copy_blocks(encoder, self)

    def call(self, images, training=False):
        grid = self.patch_embedding.grid(images.shape)
        x = self.patch_embedding(images) + self.positions.table(grid)[1:]
        x = ops.reshape(x, (-1, *grid, self.width))
        for block in self.blocks:
            x = block(x, training=training)
        return x

    def compute_output_shape(self, images_shape):
        return (images_shape[0], *self.patch_embedding.grid(images_shape), self.width)

    def get_config(self):
        return {
            **super().get_config(),
            "image_size": list(self.image_size),
            "patch_size": self.patch_size,
            "width": self.width,
            "depth": self.depth,
            "num_heads": self.num_heads,
            "position_grid": list(self.position_grid),
            "window_size": self.window_size,
            "global_blocks": list(self.global_blocks),
            "mlp_ratio": self.mlp_ratio,
            "layer_scale_init": self.layer_scale_init,
            "drop_path_rate": self.drop_path_rate,
        }


def windowed_vit_of(
    encoder: ViTEncoder,
    image_size: tuple[int, int],
    window_size: int = WINDOW_SIZE,
    global_blocks: Sequence[int] | None = None,
    drop_path_rate: float = 0.1,
    **kwargs: Any,
) -> WindowedViT:
    """Create the backbone of a detector from a pre-trained encoder.

    Args:
        encoder: `ViTEncoder`. LayerScale keeps its values.
        image_size: (height, width) of the images in pixels.
        window_size: int. Side of a window in patches. Defaults to 14.
        global_blocks: Sequence of ints. Blocks with global attention, counted from 0. Defaults to
            `default_global_blocks`.
        drop_path_rate: float in [0, 1). Stochastic depth of the last block. Defaults to 0.1.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `encoder` is not a `ViTEncoder`.

    Example:
        >>> from keras_siamim.detection.backbone import windowed_vit_of
        >>> encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=4, num_heads=2)
        >>> windowed_vit_of(encoder, (64, 64), window_size=4).global_blocks
        (0, 1, 2, 3)
    """
    check_encoder(encoder)
    backbone = WindowedViT(
        image_size,
        encoder.patch_size,
        encoder.width,
        encoder.depth,
        encoder.num_heads,
        encoder.grid,
        window_size,
        global_blocks,
        encoder.mlp_ratio,
        encoder.layer_scale_init,
        drop_path_rate,
        **kwargs,
    )
    backbone.build((None, *image_size, encoder.channels))
    backbone.load(encoder)
    return backbone
