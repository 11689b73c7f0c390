"""Vision Transformer (arXiv 2010.11929) without a head."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_siamim.arguments import height_and_width, whole_number
from keras_siamim.layers import LearnedPositions, PatchEmbedding, Token
from keras_siamim.layers.block import encoder_blocks
from keras_siamim.layers.patch_embedding import checked_grid
from keras_siamim.ops import sincos_position_table
from keras_siamim.types import PathLike, Size, Tensor

POSITION_EMBEDDINGS = ("sincos", "learned")

VIT_SIZES = {
    "tiny": {"width": 192, "depth": 12, "num_heads": 3},
    "small": {"width": 384, "depth": 12, "num_heads": 6},
    "base": {"width": 768, "depth": 12, "num_heads": 12},
    "large": {"width": 1024, "depth": 24, "num_heads": 16},
    "huge": {"width": 1280, "depth": 32, "num_heads": 16},
}

_preset_loader: Callable[..., keras.Model] | None = None


def set_preset_loader(loader: Callable[..., keras.Model]) -> None:
    """Register the function that loads presets with weights; `presets.py`, which imports this module, calls this."""
    global _preset_loader
    _preset_loader = loader


@keras.saving.register_keras_serializable(package="keras_siamim")
class ViTEncoder(keras.Model):
    """ViT encoder: patch embedding, class token, fixed 2-D sine-cosine positions, pre-norm blocks.

    Positions are computed from the patch grid, so the encoder accepts images of every multiple of `patch_size`, and any
    subset of their patches. Learned positions are resized to the grid of the images.

    Args:
        image_size: int or (height, width). Pixels of the images it is built for. Defaults to 224.
        patch_size: int. Side of a patch in pixels. Defaults to 16.
        width: int, a multiple of 4 and of `num_heads`. Channels of a token. Defaults to 768.
        depth: int. Number of blocks. Defaults to 12.
        num_heads: int. Attention heads. Defaults to 12.
        mlp_ratio: float. Hidden width of the MLPs over `width`. Defaults to 4.
        layer_scale_init: float. Initial value of LayerScale. Defaults to None, no LayerScale.
        drop_path_rate: float in [0, 1). Stochastic depth of the last block; it rises linearly from 0 at the first.
            Defaults to 0.
        final_norm: bool. Whether to apply a LayerNorm after the last block, as MAE and MoCo v3 do; SiameseIM has none.
            Defaults to False.
        position_embedding: `"sincos"`, or `"learned"` for weights of timm and Hugging Face. Defaults to `"sincos"`.
        axis_order: `"rows_first"` or `"columns_first"`. Channel order of sine-cosine positions, see
            `keras_siamim.ops.sincos_position_table`. Defaults to `"rows_first"`.
        channels: int. Channels of the images. Defaults to 3.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to Keras's setting.
        **kwargs: Arguments of `keras.Model`, such as `name` and `dtype`.

    Call arguments:
        images: (batch, height, width, channels) float, normalized; or channels first.
        visible_ids: (batch, visible) int32. Indices of the patches to encode. Defaults to None, all patches.
        training: bool. Whether to apply stochastic depth. Defaults to False.

    Returns:
        Tokens (batch, 1 + patches, width): the class token, then the patches in the order of `visible_ids`.

    Raises:
        ValueError: If an argument is out of its range, or if sizes do not fit each other.

    Example:
        >>> encoder = ViTEncoder(image_size=(64, 96), patch_size=16, width=24, depth=2, num_heads=3)
        >>> tuple(encoder(keras.ops.zeros((1, 64, 96, 3))).shape)
        (1, 25, 24)
    """

    num_prefix_tokens = 1  # the class token

    def __init__(
        self,
        image_size: Size = 224,
        patch_size: int = 16,
        width: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4,
        layer_scale_init: float | None = None,
        drop_path_rate: float = 0.0,
        final_norm: bool = False,
        position_embedding: str = "sincos",
        axis_order: str = "rows_first",
        channels: int = 3,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.image_size = height_and_width("image_size", image_size)
        patch_size, width = whole_number("patch_size", patch_size), whole_number("width", width)
        depth, num_heads = whole_number("depth", depth), whole_number("num_heads", num_heads)
        self.grid = checked_grid(*self.image_size, patch_size)
        sincos_position_table(self.grid, width, axis_order)  # raises for an invalid width or axis order
        if width % num_heads:
            raise ValueError(f"`num_heads` must divide `width`. Received: num_heads={num_heads}, width={width}.")
        if position_embedding not in POSITION_EMBEDDINGS:
            raise ValueError(
                f"`position_embedding` must be one of {POSITION_EMBEDDINGS}. Received: {position_embedding!r}."
            )
        self.patch_size = patch_size
        self.width = width
        self.depth = depth
        self.num_heads = num_heads
        self.mlp_ratio = mlp_ratio
        self.layer_scale_init = layer_scale_init
        self.drop_path_rate = drop_path_rate
        self.final_norm = final_norm
        self.position_embedding = position_embedding
        self.axis_order = axis_order
        self.channels = whole_number("channels", channels)
        policy = self.dtype_policy
        self.patch_embedding = PatchEmbedding(width, patch_size, data_format, dtype=policy, name="patch_embedding")
        self.data_format = self.patch_embedding.data_format
        self.class_token = Token(width, dtype=policy, name="class_token")
        self.learned_positions = None
        if position_embedding == "learned":
            self.learned_positions = LearnedPositions(width, self.grid, dtype=policy, name="position_embedding")
        self.blocks = encoder_blocks(depth, num_heads, mlp_ratio, layer_scale_init, drop_path_rate, policy)
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=policy, name="norm") if final_norm else None
        self.build((None, *self.image_shape))

    @classmethod
    def from_preset(cls, name: PathLike, **overrides: Any) -> keras.Model:
        """Create an untrained encoder of a named architecture, or load an encoder with weights.

        Args:
            name: Architecture `vit_{tiny|small|base|large|huge}_patch{P}_{S}`, such as `vit_base_patch16_224`, for an
                untrained encoder. Or a name for `keras_siamim.presets.load_preset`, for one with weights: a file,
                `hf://OWNER/REPOSITORY`, or a released model.
            **overrides: Constructor arguments that replace the architecture's, or arguments of `load_preset`.

        Returns:
            A `ViTEncoder`, or the encoder that a `.keras` file holds.

        Raises:
            ValueError: If the name is unknown.

        Example:
            >>> encoder = ViTEncoder.from_preset("vit_tiny_patch16_64", depth=1)
            >>> encoder.width, encoder.depth, encoder.image_size
            (192, 1, (64, 64))
        """
        match = re.fullmatch(rf"vit_({'|'.join(VIT_SIZES)})_patch(\d+)_(\d+)", str(name))
        if not match and _preset_loader is not None:
            return _preset_loader(name, **overrides)
        if not match:
            raise ValueError(
                f"`name` must have the form vit_SIZE_patchP_S with SIZE one of {', '.join(VIT_SIZES)}, such as "
                f"'vit_base_patch16_224'. Received: {name!r}."
            )
        size, patch_size, image_size = match[1], int(match[2]), int(match[3])
        return cls(**{**VIT_SIZES[size], "image_size": image_size, "patch_size": patch_size, **overrides})

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image: (height, width, channels), or channels first."""
        if self.data_format == "channels_last":
            return (*self.image_size, self.channels)
        return (self.channels, *self.image_size)

    def grid_of(self, image_shape: Sequence[int | None]) -> tuple[int, int]:
        """Return the grid (rows, columns) of images of the static shape `image_shape`, batch axis included."""
        return self.patch_embedding.grid(image_shape)

    def build(self, images_shape):
        # The constructor calls this, so that every encoder has its weights from the start.
        if self.built:
            return
        tokens = (None, 1 + self.grid[0] * self.grid[1], self.width)
        self.patch_embedding.build(images_shape)
        self.class_token.build()
        if self.learned_positions is not None:
            self.learned_positions.build()
        for block in self.blocks:
            block.build(tokens)
        if self.norm is not None:
            self.norm.build(tokens)
        self.built = True

    def embed_patches(self, images: Tensor, visible_ids: Tensor | None = None) -> Tensor:
        """Return the input of the first block: class token and embedded patches, with positions.

        Args:
            images: (batch, height, width, channels) float, normalized; or channels first.
            visible_ids: (batch, visible) int32. Indices of the patches to embed. Defaults to None, all patches.

        Returns:
            (batch, 1 + patches, width).

        Raises:
            ValueError: If the images are not floats, or `patch_size` does not divide them.
        """
        dtype = keras.backend.standardize_dtype(images.dtype)
        if "float" not in dtype:
            raise ValueError(
                "`images` must be normalized floats: divide by 255, subtract the mean and divide by the standard "
                f"deviation of `keras_siamim.batch`. Received: {dtype}."
            )
        patches = self.patch_embedding(images, visible_ids)
        class_position, positions = self._positions(self.grid_of(images.shape), patches.dtype)
        positions = positions[None] if visible_ids is None else ops.take(positions, visible_ids, axis=0)
        tokens = self.class_token(patches + positions)
        if class_position is None:
            return tokens
        return ops.concatenate([tokens[:, :1] + class_position, tokens[:, 1:]], axis=1)

    def _positions(self, grid, dtype):
        """Return positions of the class token, (1, width) or None for zero, and of all patches, (patches, width)."""
        if self.learned_positions is None:
            table = sincos_position_table(grid, self.width, self.axis_order)
            return None, ops.convert_to_tensor(table, dtype=dtype)
        table = self.learned_positions.table(grid)
        return table[:1], table[1:]

    def call(self, images, visible_ids=None, training=False):
        return self.apply_norm(self.block_outputs(images, visible_ids, training)[-1])

    def intermediates(self, images: Tensor, visible_ids: Tensor | None = None, training: bool = False) -> list[Tensor]:
        """Return the tokens after each block, `depth` tensors (batch, 1 + patches, width); the last equals `call`'s."""
        *outputs, last = self.block_outputs(images, visible_ids, training)
        return [*outputs, self.apply_norm(last)]

    def block_outputs(self, images: Tensor, visible_ids: Tensor | None = None, training: bool = False) -> list[Tensor]:
        """Return the tokens after each block as `intermediates` does, but the last ones before the final norm."""
        x = self.embed_patches(images, visible_ids)
        outputs = []
        for block in self.blocks:
            x = block(x, training=training)
            outputs.append(x)
        return outputs

    def last_keys(self, images: Tensor) -> Tensor:
        """Return the keys of the last block's attention, in inference mode.

        Args:
            images: (batch, height, width, channels) float, normalized; or channels first.

        Returns:
            (batch, 1 + patches, width): the class token, then the patches. Channels are ordered (head, channel).
        """
        return self.blocks[-1].attention_keys(self._last_input(images))

    def class_attention(self, images: Tensor) -> Tensor:
        """Return the attention of the class token to the patches in the last block, in inference mode.

        Args:
            images: (batch, height, width, channels) float, normalized; or channels first.

        Returns:
            (batch, heads, patches) float32. The rest of the attention, up to a sum of 1, is that to the class token.
        """
        return self.blocks[-1].class_attention(self._last_input(images))[:, :, 1:]

    def _last_input(self, images):
        x = self.embed_patches(images)
        for block in self.blocks[:-1]:
            x = block(x, training=False)
        return x

    def apply_norm(self, tokens: Tensor) -> Tensor:
        """Apply the final norm, if there is one, to tokens of the last block."""
        return tokens if self.norm is None else self.norm(tokens)

    def compute_output_shape(self, images_shape, visible_ids_shape=None):
        patches = self.patch_embedding.compute_output_shape(images_shape, visible_ids_shape)
        return self.class_token.compute_output_shape(patches)

    @property
    def num_layers(self) -> int:
        """Number of layers with a learning rate of their own under layer decay: the patch embedding and the blocks."""
        return self.depth + 1

    def layer_of(self, path: str) -> int | None:
        """Return the index of a weight's layer, for layer-wise learning rate decay (arXiv 2106.08254, appendix).

        Args:
            path: str. Path of a weight, such as `"encoder/block_3/mlp/expand/kernel"`.

        Returns:
            0 for patch embedding, class token and learned positions; i + 1 for block i; None for the final norm.
        """
        if match := re.search(r"(?:^|/)block_(\d+)/", path):
            return int(match[1]) + 1
        return 0 if re.search(r"(?:^|/)(class_token|position_embedding|patch_embedding)/", path) else None

    def get_config(self):
        return {
            **super().get_config(),
            "image_size": list(self.image_size),
            "patch_size": self.patch_size,
            "width": self.width,
            "depth": self.depth,
            "num_heads": self.num_heads,
            "mlp_ratio": self.mlp_ratio,
            "layer_scale_init": self.layer_scale_init,
            "drop_path_rate": self.drop_path_rate,
            "final_norm": self.final_norm,
            "position_embedding": self.position_embedding,
            "axis_order": self.axis_order,
            "channels": self.channels,
            "data_format": self.data_format,
        }
