"""UPerNet on a pre-trained encoder."""

import json
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_siamim._backend import TrainStep, broadcast_initial_state, scale_loss_for_replicas
from keras_siamim.arguments import height_and_width, whole_number
from keras_siamim.backbones import ConvNeXtEncoder, ViTEncoder
from keras_siamim.backbones.stage_maps import StageMaps
from keras_siamim.evaluation.mean_iou import IGNORE
from keras_siamim.objectives.skipped_steps import SkipNonFiniteSteps
from keras_siamim.segmentation.backbone import feature_maps_of
from keras_siamim.segmentation.heads import POOL_SCALES, AuxiliaryHead, MultiScaleNeck, UPerHead
from keras_siamim.segmentation.layers import resize_bilinear
from keras_siamim.segmentation.loss import pixel_cross_entropy
from keras_siamim.segmentation.windows import slide
from keras_siamim.types import Size


@keras.saving.register_keras_serializable(package="keras_siamim")
class UPerNet(SkipNonFiniteSteps, TrainStep, keras.Model):
    """UPerNet (arXiv 1807.10221) that segments images with the features of a pre-trained encoder, all of it trained.

    For a ViT it follows mmsegmentation's configuration for MAE, the protocol of the paper's ADE20k results: four
    maps from inside the encoder, relative position biases that start at zero, a neck to four sizes, UPerHead, and
    an auxiliary head on the third map. The maps of a ConvNeXt are its four stages, without a neck. `fit` takes
    batches (images, labels): images (batch, *crop_size, channels) float, normalized, and labels (batch, *crop_size)
    integers. Compile it with `keras_siamim.optimizers.LayerDecayAdamW` and no loss.

    Args:
        encoder: `ViTEncoder`, or `ConvNeXtEncoder` with four stages. Its weights are copied. The final norm of a ViT is
            left out, and its positions are resized.
        num_classes: int, 2 or more. Number of classes, at most 255.
        crop_size: int or (height, width). Pixels of its input, multiples of the patch size. Defaults to 512.
        head_width: int. Channels inside the head. Defaults to the encoder's width.
        auxiliary_width: int. Channels inside the auxiliary head. Defaults to 256.
        taps: Sequence of four ints. Blocks of a ViT whose outputs are read, counted from 1. Defaults to 1/3, 1/2, 2/3
            and all of the depth. None for a ConvNeXt.
        pool_scales: Sequence of ints. Sides of the maps of pyramid pooling. Defaults to 1, 2, 3, 6.
        drop_path_rate: float in [0, 1). Stochastic depth of the last block. Defaults to 0.1.
        dropout: float in [0, 1). Rate of dropped channels before the logits. Defaults to 0.1.
        auxiliary_weight: float. Weight of the auxiliary loss. Defaults to 0.4.
        ignore: int. Label of pixels without a class. Defaults to 255.
        name: str. Name of the model.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        images: (batch, *crop_size, channels) float, normalized, channels last.
        training: bool. Whether to apply dropout, stochastic depth and batch statistics. Defaults to False.

    Returns:
        Logits (batch, rows, columns, num_classes) float32 of the size of the largest map, with four rows per patch of a
        ViT, or in training a dictionary of these `"logits"` and the `"auxiliary_logits"`.

    Raises:
        ValueError: If `encoder` is neither a `ViTEncoder` nor a `ConvNeXtEncoder` with four stages, or another argument
            is out of its range.

    Example:
        >>> from keras_siamim.segmentation import UPerNet
        >>> encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=4, num_heads=2)
        >>> model = UPerNet(encoder, num_classes=3, crop_size=32, auxiliary_width=8)
        >>> tuple(model(keras.ops.zeros((1, 32, 32, 3))).shape)
        (1, 16, 16, 3)
    """

    def __init__(
        self,
        encoder: ViTEncoder | ConvNeXtEncoder,
        num_classes: int,
        crop_size: Size = 512,
        head_width: int | None = None,
        auxiliary_width: int = 256,
        taps: Sequence[int] | None = None,
        pool_scales: Sequence[int] = POOL_SCALES,
        drop_path_rate: float = 0.1,
        dropout: float = 0.1,
        auxiliary_weight: float = 0.4,
        ignore: int = IGNORE,
        name: str = "upernet",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.num_classes = whole_number("num_classes", num_classes, minimum=2)
        if 0 <= ignore < num_classes:
            raise ValueError(f"`ignore` must be no class, outside [0, {num_classes}). Received: {ignore}.")
        self.crop_size = height_and_width("crop_size", crop_size)
        patch_size = getattr(encoder, "patch_size", 1)
        if any(side % patch_size for side in self.crop_size):
            raise ValueError(
                f"`crop_size` must be multiples of the encoder's patch size, {patch_size}. Received: {crop_size}."
            )
        policy = self.dtype_policy
        self.backbone, self.neck = self._backbone_and_neck(encoder, taps, drop_path_rate)
        self.head_width = whole_number("head_width", head_width or encoder.width)
        self.auxiliary_width = whole_number("auxiliary_width", auxiliary_width)
        self.pool_scales = tuple(pool_scales)
        self.drop_path_rate = drop_path_rate
        self.dropout = dropout
        self.auxiliary_weight = auxiliary_weight
        self.ignore = ignore
        # The encoder itself would be saved a second time.
        self._encoder = json.dumps(keras.saving.serialize_keras_object(encoder))
        self._channels = encoder.channels
        self.head = UPerHead(num_classes, self.head_width, pool_scales, dropout, dtype=policy, name="head")
        self.auxiliary_head = AuxiliaryHead(num_classes, auxiliary_width, dropout, dtype=policy, name="auxiliary_head")
        self.trackers = {name: keras.metrics.Mean(name=name) for name in ("main_loss", "auxiliary_loss")}
        self.add_skip_counters()
        self.build((None, *self.crop_size, encoder.channels))

    def build(self, images_shape):
        # The constructor calls this, so that every model has its weights from the start.
        if self.built:
            return
        maps = self._map_shapes(images_shape)
        self.head.build(maps)
        self.auxiliary_head.build(maps[2])
        self.built = True

    def _backbone_and_neck(self, encoder, taps, drop_path_rate):
        named = {"dtype": self.dtype_policy, "name": "backbone"}
        if isinstance(encoder, ConvNeXtEncoder):
            if taps is not None:
                raise ValueError(
                    f"`taps` must be None for a ConvNeXtEncoder, whose taps are its stages. Received: {taps}."
                )
            return StageMaps(encoder, self.crop_size, drop_path_rate, **named), None
        backbone = feature_maps_of(encoder, self.crop_size, taps, drop_path_rate, **named)
        if len(backbone.taps) != 4:
            raise ValueError(f"`taps` must be four blocks. Received: {list(backbone.taps)}.")
        neck = MultiScaleNeck(dtype=self.dtype_policy, name="neck")
        neck.build([(None, *backbone.grid, backbone.width)] * 4)
        return backbone, neck

    def _map_shapes(self, images_shape):
        """Return the shapes of the four maps that the heads read."""
        if self.neck is None:
            return self.backbone.compute_output_shape(images_shape)
        return self.neck.compute_output_shape([(images_shape[0], *self.backbone.grid, self.backbone.width)] * 4)

    def call(self, images, training=False):
        scaled = self.backbone(images, training=training)
        if self.neck is not None:
            scaled = self.neck(scaled, training=training)
        logits = ops.cast(self.head(scaled, training=training), "float32")
        if not training:
            return logits
        auxiliary = ops.cast(self.auxiliary_head(scaled[2], training=training), "float32")
        return {"logits": logits, "auxiliary_logits": auxiliary}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if sample_weight is not None:
            raise ValueError("`sample_weight` must be None: pixels have one weight. Received: sample weights.")
        logits = y_pred["logits"] if isinstance(y_pred, dict) else y_pred
        loss = pixel_cross_entropy(logits, y, self.ignore)
        self.trackers["main_loss"].update_state(loss)
        if isinstance(y_pred, dict):
            auxiliary = pixel_cross_entropy(y_pred["auxiliary_logits"], y, self.ignore)
            self.trackers["auxiliary_loss"].update_state(auxiliary)
            loss += self.auxiliary_weight * auxiliary
        return scale_loss_for_replicas(loss)

    def fit(self, *args, **kwargs):
        broadcast_initial_state(self)
        return super().fit(*args, **kwargs)

    def sliding_logits(self, image: np.ndarray, stride: Size | None = None) -> np.ndarray:
        """Return the logits of an image of any size, the mean of overlapping windows.

        Args:
            image: (height, width, channels) float, normalized. Sides below `crop_size` are padded.
            stride: int or (rows, columns). Pixels from one window to the next. Defaults to 2/3 of `crop_size`.

        Returns:
            (height, width, num_classes) float32.

        Raises:
            ValueError: If `stride` exceeds `crop_size`.
        """
        height, width = self.crop_size
        strides = (2 * height // 3, 2 * width // 3) if stride is None else height_and_width("stride", stride)

        def predict(windows):
            logits = ops.convert_to_tensor(self.predict_on_batch(windows))
            return ops.convert_to_numpy(resize_bilinear(logits, self.crop_size))

        return slide(predict, image, self.crop_size, strides)

    def compute_output_shape(self, images_shape):
        return (*self._map_shapes(images_shape)[0][:3], self.num_classes)

    def get_compile_config(self):
        # Each backend decides how to compile: JAX's choice would be slow on PyTorch.
        config = super().get_compile_config()
        return config and {**config, "jit_compile": "auto"}

    def get_config(self):
        return {
            **super().get_config(),
            "encoder": json.loads(self._encoder),
            "num_classes": self.num_classes,
            "crop_size": list(self.crop_size),
            "head_width": self.head_width,
            "auxiliary_width": self.auxiliary_width,
            "taps": None if self.neck is None else list(self.backbone.taps),
            "pool_scales": list(self.pool_scales),
            "drop_path_rate": self.drop_path_rate,
            "dropout": self.dropout,
            "auxiliary_weight": self.auxiliary_weight,
            "ignore": self.ignore,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "encoder": keras.saving.deserialize_keras_object(config["encoder"])})
