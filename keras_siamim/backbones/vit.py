"""The plain Vision Transformer (arXiv 2010.11929) without a head."""

import re

import keras
from keras import ops

from keras_siamim.layers import LearnedPositions, PatchEmbedding, Token, TransformerBlock
from keras_siamim.layers.arguments import height_and_width, whole_number
from keras_siamim.layers.patch_embedding import checked_grid
from keras_siamim.ops import sincos_position_table

POSITION_EMBEDDINGS = ("sincos", "learned")

VIT_SIZES = {
    "tiny": {"width": 192, "depth": 12, "num_heads": 3},
    "small": {"width": 384, "depth": 12, "num_heads": 6},
    "base": {"width": 768, "depth": 12, "num_heads": 12},
    "large": {"width": 1024, "depth": 24, "num_heads": 16},
    "huge": {"width": 1280, "depth": 32, "num_heads": 16},
}


_preset_loader = None


def set_preset_loader(loader):
    """Say what loads presets with weights; `presets.py`, which stands on this file, does."""
    global _preset_loader
    _preset_loader = loader


@keras.saving.register_keras_serializable(package="keras_siamim")
class ViTEncoder(keras.Model):
    """Images to tokens: patch embedding, class token, fixed 2-D sine-cosine positions, pre-norm blocks.

    The positions are a function of the patch grid, not a weight: the encoder takes images of every size that the patch
    divides, and every subset of their patches. Positions that others have learned are resized to the image's grid.

    Args:
        image_size: Height and width in pixels of the images it is built for, a number or a pair.
        patch_size: Side of a patch in pixels.
        width: Channels of a token, a multiple of 4 and of `num_heads`.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLPs over `width`.
        layer_scale_init: Initial value of LayerScale, or None for none.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0 at the first.
        final_norm: Whether a LayerNorm follows the last block (MAE and MoCo v3: yes; SiameseIM: no).
        position_embedding: `"sincos"`, or `"learned"` for weights that need them (timm's and Hugging Face's).
        axis_order: Channel order of sine-cosine positions, see `keras_siamim.ops.sincos_position_table`.
        channels: Channels of the images.
        data_format: `"channels_last"`, `"channels_first"` or None for Keras's setting.
        **kwargs: As for every Keras model (`name`, `dtype`).

    Call:
        images: (batch, height, width, channels) float, normalized.
        visible_ids: (batch, visible) int32, the patches to encode, or None for all.
        training: Whether stochastic depth is on.
        Returns tokens (batch, 1 + patches, width), the class token first, the patches in the order given.

    Raises:
        ValueError: For a size that the patch does not divide, or a width that heads or positions do not divide.

    Example:
        >>> encoder = ViTEncoder(image_size=(64, 96), patch_size=16, width=24, depth=2, num_heads=3)
        >>> tuple(encoder(keras.ops.zeros((1, 64, 96, 3))).shape)
        (1, 25, 24)
    """

    def __init__(
        self,
        image_size=224,
        patch_size=16,
        width=768,
        depth=12,
        num_heads=12,
        mlp_ratio=4,
        layer_scale_init=None,
        drop_path_rate=0.0,
        final_norm=False,
        position_embedding="sincos",
        axis_order="rows_first",
        channels=3,
        data_format=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.image_size = height_and_width("image_size", image_size)
        patch_size, width = whole_number("patch_size", patch_size), whole_number("width", width)
        depth, num_heads = whole_number("depth", depth), whole_number("num_heads", num_heads)
        self.grid = checked_grid(*self.image_size, patch_size)
        sincos_position_table(self.grid, width, axis_order)  # refuses a width or an axis order that does not fit
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
        self.blocks = [
            TransformerBlock(
                num_heads,
                mlp_ratio,
                layer_scale_init=layer_scale_init,
                drop_path_rate=drop_path_rate * index / max(depth - 1, 1),
                dtype=policy,
                name=f"block_{index}",
            )
            for index in range(depth)
        ]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=policy, name="norm") if final_norm else None
        self.build((None, *self.image_shape))

    @classmethod
    def from_preset(cls, name, **overrides):
        """An untrained encoder of a named architecture, or one with weights.

        Args:
            name: `vit_{tiny|small|base|large|huge}_patch{P}_{S}`, as `vit_base_patch16_224`; or what
                `keras_siamim.presets.load_preset` takes: a file, `hf://OWNER/REPOSITORY`, a released model's name.
            **overrides: Constructor arguments that differ; for weights, arguments of `load_preset`.

        Raises:
            ValueError: For a name that is neither.
        """
        match = re.fullmatch(rf"vit_({'|'.join(VIT_SIZES)})_patch(\d+)_(\d+)", str(name))
        if not match and _preset_loader is not None:
            return _preset_loader(name, **overrides)
        if not match:
            raise ValueError(
                f"`name` must have the form vit_SIZE_patchP_S with SIZE one of {', '.join(VIT_SIZES)}, as "
                f"'vit_base_patch16_224'. Received: {name!r}."
            )
        size, patch_size, image_size = match[1], int(match[2]), int(match[3])
        return cls(**{**VIT_SIZES[size], "image_size": image_size, "patch_size": patch_size, **overrides})

    @property
    def image_shape(self):
        """Shape of one image: (height, width, channels), or channels first."""
        if self.data_format == "channels_last":
            return (*self.image_size, self.channels)
        return (self.channels, *self.image_size)

    def build(self, images_shape):
        """Create all weights; the constructor does so."""
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

    def embed_patches(self, images, visible_ids=None):
        """Class token and embedded patches with their positions, (batch, 1 + patches, width): what the blocks take."""
        dtype = keras.backend.standardize_dtype(images.dtype)
        if "float" not in dtype:
            raise ValueError(
                "`images` must be normalized floats: divide by 255, subtract the mean and divide by the standard "
                f"deviation of `keras_siamim.batch`. Received dtype: {dtype}."
            )
        patches = self.patch_embedding(images, visible_ids)
        class_position, positions = self._positions(self.patch_embedding.grid(images.shape), patches.dtype)
        positions = positions[None] if visible_ids is None else ops.take(positions, visible_ids, axis=0)
        tokens = self.class_token(patches + positions)
        if class_position is None:
            return tokens
        return ops.concatenate([tokens[:, :1] + class_position, tokens[:, 1:]], axis=1)

    def _positions(self, grid, dtype):
        """Positions of the class token (1, width), or None for zero, and of all patches (patches, width)."""
        if self.learned_positions is None:
            table = sincos_position_table(grid, self.width, self.axis_order)
            return None, ops.convert_to_tensor(table, dtype=dtype)
        table = self.learned_positions.table(grid)
        return table[:1], table[1:]

    def call(self, images, visible_ids=None, training=False):
        """Encode images; see the class."""
        return self.apply_norm(self.block_outputs(images, visible_ids, training)[-1])

    def intermediates(self, images, visible_ids=None, training=False):
        """Tokens after every block, a list of `depth` tensors (batch, 1 + patches, width); the last one as `call`."""
        *outputs, last = self.block_outputs(images, visible_ids, training)
        return [*outputs, self.apply_norm(last)]

    def block_outputs(self, images, visible_ids=None, training=False):
        """As `intermediates`, but the last one too is what the block gave, before the final norm if there is one."""
        x = self.embed_patches(images, visible_ids)
        outputs = []
        for block in self.blocks:
            x = block(x, training=training)
            outputs.append(x)
        return outputs

    def apply_norm(self, tokens):
        """Tokens of the last block as `call` gives them: through the final norm, where there is one."""
        return tokens if self.norm is None else self.norm(tokens)

    def compute_output_shape(self, images_shape, visible_ids_shape=None):
        """(batch, 1 + patches, width)."""
        patches = self.patch_embedding.compute_output_shape(images_shape, visible_ids_shape)
        return self.class_token.compute_output_shape(patches)

    @property
    def num_layers(self):
        """Layers that layer-wise learning rates tell apart: the patch embedding and the blocks."""
        return self.depth + 1

    def layer_of(self, path):
        """Return the layer that a weight belongs to, for layer-wise learning rates (arXiv 2106.08254, appendix).

        Args:
            path: A weight's path, such as `"encoder/block_3/mlp/expand/kernel"`.

        Returns:
            0 for patch embedding, class token and learned positions, i + 1 for block i, None for the final norm.
        """
        if match := re.search(r"(?:^|/)block_(\d+)/", path):
            return int(match[1]) + 1
        return 0 if re.search(r"(?:^|/)(class_token|position_embedding|patch_embedding)/", path) else None

    def get_config(self):
        """Constructor arguments."""
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
