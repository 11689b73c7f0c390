"""ConvNeXt V2 (arXiv 2301.00808) without a head, dense and masked."""

import re
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_siamim.arguments import height_and_width, whole_number
from keras_siamim.layers import ConvNeXtBlock, PatchEmbedding
from keras_siamim.layers.patch_embedding import checked_grid
from keras_siamim.ops import map_to_cells
from keras_siamim.ops.tokens import check_data_format
from keras_siamim.types import Size, Tensor

CONVNEXT_SIZES = {
    "atto": {"widths": (40, 80, 160, 320), "depths": (2, 2, 6, 2)},
    "femto": {"widths": (48, 96, 192, 384), "depths": (2, 2, 6, 2)},
    "pico": {"widths": (64, 128, 256, 512), "depths": (2, 2, 6, 2)},
    "nano": {"widths": (80, 160, 320, 640), "depths": (2, 2, 8, 2)},
    "tiny": {"widths": (96, 192, 384, 768), "depths": (3, 3, 9, 3)},
    "base": {"widths": (128, 256, 512, 1024), "depths": (3, 3, 27, 3)},
    "large": {"widths": (192, 384, 768, 1536), "depths": (3, 3, 27, 3)},
    "huge": {"widths": (352, 704, 1408, 2816), "depths": (3, 3, 27, 3)},
}
PRESET_PREFIX = "convnextv2_"


@keras.saving.register_keras_serializable(package="keras_siamim")
class ConvNeXtEncoder(keras.Model):
    """ConvNeXt V2 encoder that masks without leaking: outputs at visible cells do not depend on masked pixels.

    A cell of the grid is one position of the last stage, `patch_size` pixels wide: it is token and unit of masking at
    once. Only the depthwise convolutions mix cells. All other operations run on the visible cells alone, and the
    convolutions see zeros in place of masked cells, as in SparK (arXiv 2301.03580) and FCMAE (arXiv 2301.00808,
    section 3). There is no class token.

    Args:
        image_size: int or (height, width). Pixels of the images it is built for. Defaults to 224.
        stem: int. Side of the patches that the first convolution embeds, in pixels. Defaults to 4.
        widths: Sequence of int. Channels of each stage. Defaults to those of Tiny.
        depths: Sequence of int. Number of blocks of each stage. Defaults to those of Tiny.
        drop_path_rate: float in [0, 1). Stochastic depth of the last block; it rises linearly from 0 at the first.
            Defaults to 0.
        channels: int. Channels of the images. Defaults to 3.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to Keras's setting.
        **kwargs: Arguments of `keras.Model`, such as `name` and `dtype`.

    Attributes:
        patch_size: int. Side of a cell in pixels, `stem * 2 ** (stages - 1)`.
        width: int. Channels of a token, those of the last stage.
        grid: (rows, columns) of cells of an image of `image_size`.

    Call arguments:
        images: (batch, height, width, channels) float, normalized; or channels first.
        visible_ids: (batch, visible) int32. Indices of the cells to encode. Defaults to None, all cells.
        training: bool. Whether to apply stochastic depth. Defaults to False.

    Returns:
        Tokens (batch, cells, width): the outputs of the last stage in the order of `visible_ids`.

    Raises:
        ValueError: If an argument is out of its range, or if sizes do not fit each other.

    Example:
        >>> encoder = ConvNeXtEncoder(image_size=(32, 48), stem=2, widths=(8, 16), depths=(1, 1))
        >>> encoder.patch_size, encoder.grid, tuple(encoder(keras.ops.zeros((1, 32, 48, 3))).shape)
        (4, (8, 12), (1, 96, 16))
    """

    num_prefix_tokens = 0
    axis_order = "rows_first"

    def __init__(
        self,
        image_size: Size = 224,
        stem: int = 4,
        widths: Sequence[int] = CONVNEXT_SIZES["tiny"]["widths"],
        depths: Sequence[int] = CONVNEXT_SIZES["tiny"]["depths"],
        drop_path_rate: float = 0.0,
        channels: int = 3,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.image_size = height_and_width("image_size", image_size)
        self.stem = whole_number("stem", stem)
        self.widths = tuple(whole_number("widths", width) for width in widths)
        self.depths = tuple(whole_number("depths", depth) for depth in depths)
        if len(self.widths) != len(self.depths) or not self.widths:
            raise ValueError(
                f"`widths` and `depths` must have one entry per stage. Received: widths={widths}, depths={depths}."
            )
        self.patch_size = self.stem * 2 ** (len(self.widths) - 1)
        self.width, self.depth = self.widths[-1], sum(self.depths)
        self.grid = checked_grid(*self.image_size, self.patch_size)
        self.drop_path_rate = drop_path_rate
        self.channels = whole_number("channels", channels)
        self.data_format = check_data_format(keras.config.image_data_format() if data_format is None else data_format)
        rates = [drop_path_rate * index / max(self.depth - 1, 1) for index in range(self.depth)]
        policy = self.dtype_policy
        # Stem and transitions are convolutions whose stride is their kernel size, so they embed patches.
        self.patch_embedding = self._embedding(self.widths[0], self.stem, "patch_embedding")
        self.stem_norm = self._norm("stem_norm")
        self.transition_norms = [self._norm(f"transition_norm_{stage}") for stage in range(1, len(self.widths))]
        self.transitions = [
            self._embedding(width, 2, f"transition_{stage}") for stage, width in enumerate(self.widths[1:], 1)
        ]
        self.stages = [
            [ConvNeXtBlock(rates.pop(0), dtype=policy, name=f"stage_{stage}_block_{index}") for index in range(depth)]
            for stage, depth in enumerate(self.depths)
        ]
        self.build((None, *self.image_shape))

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> keras.Model:
        """Create an untrained encoder of a named architecture.

        Args:
            name: `convnextv2_{atto|femto|pico|nano|tiny|base|large|huge}`, for images of 224 pixels.
            **overrides: Constructor arguments that replace the architecture's.

        Returns:
            A `ConvNeXtEncoder`.

        Raises:
            ValueError: If the name is unknown.

        Example:
            >>> ConvNeXtEncoder.from_preset("convnextv2_atto", image_size=64).grid
            (2, 2)
        """
        size = str(name).removeprefix(PRESET_PREFIX)
        if size not in CONVNEXT_SIZES or size == name:
            raise ValueError(
                f"`name` must be {PRESET_PREFIX}SIZE with SIZE one of {', '.join(CONVNEXT_SIZES)}. Received: {name!r}."
            )
        return cls(**{**CONVNEXT_SIZES[size], **overrides})

    def _embedding(self, width, patch_size, name):
        return PatchEmbedding(width, patch_size, "channels_last", dtype=self.dtype_policy, name=name)

    def _norm(self, name):
        return keras.layers.LayerNormalization(epsilon=1e-6, dtype=self.dtype_policy, name=name)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image: (height, width, channels), or channels first."""
        if self.data_format == "channels_last":
            return (*self.image_size, self.channels)
        return (self.channels, *self.image_size)

    def grid_of(self, image_shape: Sequence[int | None]) -> tuple[int, int]:
        """Return the grid (rows, columns) of images of the static shape `image_shape`, batch axis included."""
        height, width = image_shape[1:3] if self.data_format == "channels_last" else image_shape[2:4]
        return checked_grid(height, width, self.patch_size)

    def build(self, images_shape):
        # The constructor calls this, so that every encoder has its weights from the start.
        if self.built:
            return
        self.patch_embedding.build((None, *self.image_size, self.channels))
        self.stem_norm.build((None, None, self.widths[0]))
        for norm, transition, width in zip(self.transition_norms, self.transitions, self.widths, strict=False):
            norm.build((None, None, width))
            transition.build((None, 2, 2, width))
        for stage, width in zip(self.stages, self.widths, strict=True):
            for block in stage:
                block.build((None, None, width))
        self.built = True

    def call(self, images, visible_ids=None, training=False):
        return self.intermediates(images, visible_ids, training)[-1]

    def intermediates(self, images: Tensor, visible_ids: Tensor | None = None, training: bool = False) -> list[Tensor]:
        """Return the output of each stage; the last equals `call`'s.

        Args:
            images: (batch, height, width, channels) float, normalized; or channels first.
            visible_ids: (batch, visible) int32. Indices of the cells to encode. Defaults to None, all cells.
            training: bool. Whether to apply stochastic depth. Defaults to False.

        Returns:
            A tensor (batch, positions, channels) per stage. Without `visible_ids`, the positions are those of the
            feature map, row by row. With `visible_ids`, they are ordered cell by cell, and row by row within a cell.
        """
        dtype = keras.backend.standardize_dtype(images.dtype)
        if "float" not in dtype:
            raise ValueError(
                "`images` must be normalized floats: divide by 255, subtract the mean and divide by the standard "
                f"deviation of `keras_siamim.batch`. Received: {dtype}."
            )
        grid = self.grid_of(images.shape)
        if self.data_format == "channels_first":
            images = ops.transpose(images, (0, 2, 3, 1))
        cell, cells = (self.patch_size, self.patch_size), 1
        if visible_ids is None:
            # One cell as large as the image: positions are those of the whole map, and nothing is gathered.
            cell, grid = images.shape[1:3], (1, 1)
        else:
            cells = visible_ids.shape[1]
        x = map_to_cells(images, cell, grid, visible_ids)
        outputs = []
        for stage, blocks in enumerate(self.stages):
            if stage == 0:
                x, cell = _merge(x, cell, cells, self.patch_embedding)
                x = self.stem_norm(x)
            else:
                x, cell = _merge(self.transition_norms[stage - 1](x), cell, cells, self.transitions[stage - 1])
            for block in blocks:
                x = block(x, cell=cell, grid=grid, visible_ids=visible_ids, training=training)
            outputs.append(x)
        return outputs

    def feature_maps(self, images: Tensor, training: bool = False) -> list[Tensor]:
        """Return the feature map of each stage for dense tasks.

        Args:
            images: (batch, height, width, channels) float, normalized; or channels first.
            training: bool. Whether to apply stochastic depth. Defaults to False.

        Returns:
            (batch, rows, columns, channels) per stage, at strides `stem`, `2 * stem` and so on.
        """
        rows, columns = self.grid_of(images.shape)
        outputs = self.intermediates(images, training=training)
        scales = [2**level for level in reversed(range(len(outputs)))]
        return [
            ops.reshape(x, (-1, rows * scale, columns * scale, x.shape[-1]))
            for x, scale in zip(outputs, scales, strict=True)
        ]

    def compute_output_shape(self, images_shape, visible_ids_shape=None):
        rows, columns = self.grid_of(images_shape)
        return (images_shape[0], visible_ids_shape[1] if visible_ids_shape else rows * columns, self.width)

    @property
    def num_layers(self) -> int:
        """Number of layers with a learning rate of their own under layer decay: the stem and the stages."""
        return len(self.stages) + 1

    def layer_of(self, path: str) -> int | None:
        """Return the index of a weight's layer, for layer-wise learning rate decay by stage.

        Args:
            path: str. Path of a weight, such as `"encoder/stage_1_block_0/expand/kernel"`.

        Returns:
            0 for the stem; i + 1 for stage i and the transition to it; None for anything else.
        """
        if match := re.search(r"(?:^|/)(?:stage|transition|transition_norm)_(\d+)(?:_block_\d+)?/", path):
            return int(match[1]) + 1
        return 0 if re.search(r"(?:^|/)(patch_embedding|stem_norm)/", path) else None

    def get_config(self):
        return {
            **super().get_config(),
            "image_size": list(self.image_size),
            "stem": self.stem,
            "widths": list(self.widths),
            "depths": list(self.depths),
            "drop_path_rate": self.drop_path_rate,
            "channels": self.channels,
            "data_format": self.data_format,
        }


def _merge(x, cell, cells, embedding):
    """Embed the patches of every cell; return the positions (batch, positions, channels) and the smaller cell."""
    side = embedding.patch_size
    merged = embedding(ops.reshape(x, (-1, *cell, x.shape[-1])))
    cell = cell[0] // side, cell[1] // side
    return ops.reshape(merged, (-1, cells * cell[0] * cell[1], merged.shape[-1])), cell
