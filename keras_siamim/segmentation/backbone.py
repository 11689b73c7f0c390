"""ViT that returns feature maps of several blocks, with trainable positions and relative position biases."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_siamim.arguments import height_and_width
from keras_siamim.backbones import ViTEncoder
from keras_siamim.backbones.dense import check_encoder, copy_blocks, position_table
from keras_siamim.layers import LearnedPositions, PatchEmbedding, RelativeAttention, Token
from keras_siamim.layers.block import encoder_blocks
from keras_siamim.layers.patch_embedding import checked_grid
from keras_siamim.ops import interpolate_positions

# Blocks whose outputs become maps, as shares of the depth.
_TAPS = (1 / 3, 1 / 2, 2 / 3, 1)


def default_taps(depth: int) -> tuple[int, ...]:
    """Return the blocks whose outputs a dense head reads, counted from 1: at 1/3, 1/2, 2/3 and all of the depth.

    Args:
        depth: int. Number of blocks.

    Returns:
        Four ints; halves are rounded up.

    Example:
        >>> default_taps(12), default_taps(9)
        ((4, 6, 8, 12), (3, 5, 6, 9))
    """
    return tuple(max(1, int(share * depth + 0.5)) for share in _TAPS)


@keras.saving.register_keras_serializable(package="keras_siamim")
class FeatureMaps(keras.layers.Layer):
    """ViT from images of one size to the raw outputs of some blocks, as maps without the class token.

    It differs from a `ViTEncoder` as BEiT (arXiv 2106.08254) does: positions are a trainable table, each block adds a
    bias per relative position to its attention, LayerScale starts at 1, and there is no final norm.

    Args:
        image_size: (height, width) of the images in pixels, multiples of `patch_size`.
        patch_size: int. Side of a patch in pixels.
        width: int. Channels.
        depth: int. Number of blocks.
        num_heads: int. Attention heads.
        taps: Sequence of ints in [1, depth]. Blocks whose outputs are returned, counted from 1.
        mlp_ratio: float. Hidden width of the MLPs over `width`. Defaults to 4.
        layer_scale_init: float. Initial value of LayerScale. Defaults to 1.
        drop_path_rate: float in [0, 1). Stochastic depth of the last block; it rises linearly from 0. Defaults to 0.1.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        images: (batch, height, width, channels) float, normalized, channels last.

    Returns:
        List of tensors (batch, rows, columns, width), one per tap.

    Raises:
        ValueError: If `patch_size` does not divide `image_size`, or a tap is outside [1, depth].

    Example:
        >>> from keras_siamim.segmentation.backbone import FeatureMaps
        >>> backbone = FeatureMaps((16, 16), patch_size=8, width=8, depth=2, num_heads=2, taps=(1, 2))
        >>> [tuple(x.shape) for x in backbone(keras.ops.zeros((1, 16, 16, 3)))]
        [(1, 2, 2, 8), (1, 2, 2, 8)]
    """

    def __init__(
        self,
        image_size: Sequence[int],
        patch_size: int,
        width: int,
        depth: int,
        num_heads: int,
        taps: Sequence[int],
        mlp_ratio: float = 4,
        layer_scale_init: float = 1.0,
        drop_path_rate: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.image_size = height_and_width("image_size", tuple(image_size))
        self.grid = checked_grid(*self.image_size, patch_size)
        if not taps or not all(1 <= tap <= depth for tap in taps):
            raise ValueError(f"`taps` must be blocks in [1, {depth}]. Received: {list(taps)}.")
        self.patch_size = patch_size
        self.width = width
        self.depth = depth
        self.num_heads = num_heads
        self.taps = tuple(int(tap) for tap in taps)
        self.mlp_ratio = mlp_ratio
        self.layer_scale_init = layer_scale_init
        self.drop_path_rate = drop_path_rate
        policy = self.dtype_policy
        # The names are those that layer-wise learning rate decay looks for.
        self.patch_embedding = PatchEmbedding(width, patch_size, "channels_last", dtype=policy, name="patch_embedding")
        self.class_token = Token(width, dtype=policy, name="class_token")
        self.positions = LearnedPositions(width, self.grid, dtype=policy, name="position_embedding")
        self.blocks = encoder_blocks(
            depth,
            num_heads,
            mlp_ratio,
            layer_scale_init,
            drop_path_rate,
            policy,
            lambda index: RelativeAttention(num_heads, self.grid, dtype=policy, name="attention"),
        )

    def build(self, images_shape):
        self.patch_embedding.build(images_shape)
        self.class_token.build()
        self.positions.build()
        for block in self.blocks:
            block.build((None, 1 + self.grid[0] * self.grid[1], self.width))

    def load(self, encoder: ViTEncoder) -> None:
        """Copy the weights of a pre-trained encoder, without its final norm, and resize its positions to this grid.

        Args:
            encoder: `ViTEncoder` with the sizes of this layer.
        """
        self.positions.embedding.assign(interpolate_positions(position_table(encoder), encoder.grid, self.grid)[None])
        self.class_token.set_weights(encoder.class_token.get_weights())
        copy_blocks(encoder, self)

    def call(self, images, training=False):
        patches = self.patch_embedding(images)
        x = self.class_token(patches) + self.positions.table(self.grid)
        maps = {}
        for number, block in enumerate(self.blocks, start=1):
            x = block(x, training=training)
            if number in self.taps:
                maps[number] = ops.reshape(x[:, 1:], (-1, *self.grid, self.width))
        return [maps[tap] for tap in self.taps]

    def compute_output_shape(self, images_shape):
        return [(images_shape[0], *self.grid, self.width) for _ in self.taps]

    def get_config(self):
        return {
            **super().get_config(),
            "image_size": list(self.image_size),
            "patch_size": self.patch_size,
            "width": self.width,
            "depth": self.depth,
            "num_heads": self.num_heads,
            "taps": list(self.taps),
            "mlp_ratio": self.mlp_ratio,
            "layer_scale_init": self.layer_scale_init,
            "drop_path_rate": self.drop_path_rate,
        }


def feature_maps_of(
    encoder: ViTEncoder,
    image_size: tuple[int, int],
    taps: Sequence[int] | None = None,
    drop_path_rate: float = 0.1,
    **kwargs: Any,
) -> FeatureMaps:
    """Create the backbone of a dense task from a pre-trained encoder; with its zero biases it computes the same maps.

    Args:
        encoder: `ViTEncoder`. LayerScale keeps its values; without it, it starts at 1.
        image_size: (height, width) of the images in pixels.
        taps: Sequence of ints. Blocks whose outputs are returned, counted from 1. Defaults to `default_taps`.
        drop_path_rate: float in [0, 1). Stochastic depth of the last block. Defaults to 0.1.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `encoder` is not a `ViTEncoder`.

    Example:
        >>> from keras_siamim.segmentation.backbone import feature_maps_of
        >>> encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=3, num_heads=2)
        >>> feature_maps_of(encoder, (32, 32)).taps
        (1, 2, 2, 3)
    """
    check_encoder(encoder)
    backbone = FeatureMaps(
        image_size,
        encoder.patch_size,
        encoder.width,
        encoder.depth,
        encoder.num_heads,
        default_taps(encoder.depth) if taps is None else taps,
        encoder.mlp_ratio,
        1.0 if encoder.layer_scale_init is None else encoder.layer_scale_init,
        drop_path_rate,
        **kwargs,
    )
    backbone.build((None, *image_size, encoder.channels))
    backbone.load(encoder)
    return backbone
