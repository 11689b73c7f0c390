"""Mask R-CNN on a pre-trained encoder: ViTDet for a ViT, a feature pyramid network for a ConvNeXt."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_siamim import batch as keys
from keras_siamim._backend import TrainStep, broadcast_initial_state, scale_loss_for_replicas
from keras_siamim.arguments import height_and_width, whole_number
from keras_siamim.backbones import ConvNeXtEncoder, ViTEncoder
from keras_siamim.backbones.stage_maps import StageMaps
from keras_siamim.detection import losses
from keras_siamim.detection.backbone import WINDOW_SIZE, windowed_vit_of
from keras_siamim.detection.images import normalize_images
from keras_siamim.detection.postprocessing import in_original_pixels
from keras_siamim.detection.proposals import ProposalHead, select_proposals
from keras_siamim.detection.pyramid import RELATIVE_STRIDES, FeaturePyramid, SimpleFeaturePyramid
from keras_siamim.detection.regions import RegionHeads
from keras_siamim.detection.settings import DetectorSettings
from keras_siamim.objectives.skipped_steps import SkipNonFiniteSteps
from keras_siamim.objectives.validation import require_keys
from keras_siamim.types import Batch, Size, Tensor


@keras.saving.register_keras_serializable(package="keras_siamim")
class MaskRCNN(SkipNonFiniteSteps, TrainStep, keras.Model):
    """Mask R-CNN or Faster R-CNN on the features of a pre-trained encoder, all of it trained.

    For a ViT it is ViTDet (arXiv 2203.16527) as in detectron2, the protocol of the paper's COCO and LVIS results.
    For a ConvNeXt, the four stages and a feature pyramid network take the place of windows and simple pyramid.
    `fit` takes batches of the schema of detection in `keras_siamim.batch`, as `x`; `predict` the same without
    objects. Compile it with `keras_siamim.optimizers.LayerDecayAdamW` and no loss.

    Args:
        encoder: `ViTEncoder`, or `ConvNeXtEncoder` with four stages. Its weights are copied. Class token and final norm
            of a ViT are left out.
        num_classes: int. Number of classes.
        image_size: int or (height, width). Pixels of the padded images, multiples of the patch size. Defaults to 1024.
        masks: bool. Whether to segment the objects. Defaults to True.
        settings: `DetectorSettings`. Defaults to those for COCO.
        class_counts: Sequence of numbers. Training images per class, for LVIS's federated loss. Defaults to None.
        window_size: int. Side of a ViT's windows of attention in patches. Defaults to 14.
        global_blocks: Sequence of ints. Blocks of a ViT with global attention, counted from 0. Defaults to the last one
            of each quarter of the depth.
        drop_path_rate: float in [0, 1). Stochastic depth of the last block. Defaults to 0.1.
        seed: int. Seed of the samples of anchors and regions. Defaults to a random one.
        name: str. Name of the model.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        batch: Dictionary of `keras_siamim.batch`: images, normalized or uint8, and sizes; in training also boxes,
            classes and, with `masks`, masks; otherwise optionally original sizes and score thresholds.
        training: bool. Whether to return losses. Defaults to False.

    Returns:
        Detections, see `RegionHeads.detect`: in pixels of the original images if `batch` has their sizes, otherwise of
        the resized ones. In training a dictionary of losses, float32 scalars.

    Raises:
        ValueError: If `encoder` is neither a `ViTEncoder` nor a `ConvNeXtEncoder` with four stages, or another argument
            is out of its range.

    Example:
        >>> from keras_siamim.detection import DetectorSettings, MaskRCNN
        >>> encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=4, num_heads=2)
        >>> settings = DetectorSettings(pyramid_width=8, head_width=8, dense_width=8, post_nms_test=20)
        >>> model = MaskRCNN(encoder, num_classes=3, image_size=32, settings=settings, window_size=2)
        >>> batch = {"images": np.zeros((1, 32, 32, 3), "float32"), "sizes": np.array([[32, 24]])}
        >>> tuple(model(batch)["boxes"].shape)
        (1, 100, 4)
    """

    def __init__(
        self,
        encoder: ViTEncoder | ConvNeXtEncoder,
        num_classes: int,
        image_size: Size = 1024,
        masks: bool = True,
        settings: DetectorSettings | None = None,
        class_counts: Sequence[float] | None = None,
        window_size: int = WINDOW_SIZE,
        global_blocks: Sequence[int] | None = None,
        drop_path_rate: float = 0.1,
        seed: int | None = None,
        name: str = "mask_rcnn",
        **kwargs: Any,
    ):
        # Boxes must stay float32 under a mixed policy: layers cast their inputs, the model does not.
        super().__init__(name=name, autocast=False, **kwargs)
        self.num_classes = whole_number("num_classes", num_classes)
        self.image_size = height_and_width("image_size", image_size)
        self.settings = settings or DetectorSettings()
        self.class_counts = None if class_counts is None else [float(count) for count in class_counts]
        policy = self.dtype_policy
        self.window_size, self.global_blocks, self.drop_path_rate = window_size, global_blocks, drop_path_rate
        named: dict[str, Any] = {"dtype": policy, "name": "backbone"}
        pyramid: dict[str, Any] = {"width": self.settings.pyramid_width, "dtype": policy, "name": "pyramid"}
        if isinstance(encoder, ConvNeXtEncoder):
            self.backbone = StageMaps(encoder, self.image_size, drop_path_rate, **named)
            self.pyramid = FeaturePyramid(**pyramid)
            strides: list[float] = [*self.backbone.strides, 2 * self.backbone.strides[-1]]
        else:
            self.backbone = windowed_vit_of(
                encoder, self.image_size, window_size, global_blocks, drop_path_rate, **named
            )
            self.pyramid = SimpleFeaturePyramid(**pyramid)
            strides = [encoder.patch_size * stride for stride in RELATIVE_STRIDES]
        self.proposal_head = ProposalHead(
            strides, self.settings.anchor_sizes, self.settings.aspect_ratios, dtype=policy, name="proposal_head"
        )
        self.heads = RegionHeads(
            num_classes, strides[:-1], self.settings, masks, self.class_counts, dtype=policy, name="heads"
        )
        self.masks = masks
        # The encoder itself would be saved a second time.
        self._encoder = json.dumps(keras.saving.serialize_keras_object(encoder))
        self._channels = encoder.channels
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        names = ["anchor_class_loss", "anchor_box_loss", "class_loss", "box_loss", *(["mask_loss"] if masks else [])]
        self.trackers = {name: keras.metrics.Mean(name=name) for name in names}
        self.add_skip_counters()
        self.build()

    def build(self, input_shape=None):
        # The constructor calls this, so that every model has its weights from the start.
        if self.built:
            return
        shape = (None, *self.image_size, self._channels)
        last = self.backbone.compute_output_shape(shape)
        self.pyramid.build(last)
        maps = self.pyramid.compute_output_shape(last)
        self.proposal_head.build(maps)
        self.heads.build(maps[:-1])
        self.built = True

    def call(self, batch, training=False):
        objects = (keys.BOXES, keys.CLASSES, *([keys.MASKS] if self.masks else []))
        require_keys(batch, (keys.IMAGES, keys.SIZES, *(objects if training else ())))
        maps = self.feature_maps(batch, training)
        return self.losses_of(maps, batch) if training else self.detect(maps, batch)

    def feature_maps(self, batch: Batch, training: bool = False) -> list[Tensor]:
        """Return the maps of the feature pyramid, the largest first.

        Args:
            batch: Dictionary with images, uint8 or normalized, and sizes.
            training: bool. Whether the model trains. Defaults to False.
        """
        images = normalize_images(batch[keys.IMAGES], batch[keys.SIZES])
        return self.pyramid(self.backbone(images, training=training), training=training)

    def losses_of(self, maps: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch, float32 scalars, over random samples of anchors and regions.

        Args:
            maps: List of tensors from `feature_maps`.
            batch: Dictionary with sizes, boxes, classes and, if the model has masks, masks.
        """
        settings = self.settings
        truth = losses.Truth(ops.cast(batch[keys.BOXES], "float32"), ops.cast(batch[keys.CLASSES], "int32"))
        predictions = self.proposal_head(maps)
        logits, deltas = (ops.concatenate(values, axis=1) for values in (predictions.logits, predictions.deltas))
        anchors = np.concatenate(predictions.anchors)
        images = ops.shape(logits)[0]
        anchor_class_loss, anchor_box_loss = losses.anchor_losses(
            logits,
            deltas,
            ops.convert_to_tensor(anchors),
            truth,
            self.draw("anchors", (images, len(anchors))),
            settings.anchors_sampled,
            settings.anchor_positive_fraction,
        )
        proposals = select_proposals(
            predictions,
            batch[keys.SIZES],
            settings.pre_nms_train,
            settings.post_nms_train,
            settings.proposal_nms_threshold,
        )
        regions = losses.sample_regions(
            proposals.boxes,
            proposals.valid,
            truth,
            self.draw("regions", (images, settings.post_nms_train + truth.boxes.shape[1])),
            settings.regions_sampled,
            settings.region_positive_fraction,
            self.num_classes,
        )
        class_draw = None if self.class_counts is None else self.draw("classes", (self.num_classes,))
        masks = batch[keys.MASKS] if self.masks else None
        found = self.heads.losses_of(maps[:-1], regions, batch[keys.SIZES], masks, class_draw)
        return {"anchor_class_loss": anchor_class_loss, "anchor_box_loss": anchor_box_loss, **found}

    def draw(self, purpose: str, shape: tuple) -> Tensor:
        """Return uniform random numbers in [0, 1), which decide a sample.

        Args:
            purpose: `"anchors"`, `"regions"` or `"classes"`.
            shape: Tuple of integers.
        """
        return keras.random.uniform(shape, seed=self.seed_generator, dtype="float32")

    def detect(self, maps: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the detections of a batch, see `call`.

        Args:
            maps: List of tensors from `feature_maps`.
            batch: Dictionary with sizes and, optionally, original sizes and score thresholds.
        """
        settings, sizes = self.settings, batch[keys.SIZES]
        proposals = select_proposals(
            self.proposal_head(maps),
            sizes,
            settings.pre_nms_test,
            settings.post_nms_test,
            settings.proposal_nms_threshold,
        )
        found = self.heads.detect(maps[:-1], proposals, sizes, batch.get(keys.SCORE_THRESHOLD))
        if keys.ORIGINAL_SIZES in batch:
            return in_original_pixels(found, sizes, batch[keys.ORIGINAL_SIZES])
        return found

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if "class_loss" not in y_pred:
            raise ValueError(
                "`validation_data` must be None: a detector has no loss outside training; compute its average "
                "precision instead. Received: validation data."
            )
        for name, tracker in self.trackers.items():
            tracker.update_state(y_pred[name])
        return scale_loss_for_replicas(sum(y_pred[name] for name in self.trackers))

    def fit(self, *args, **kwargs):
        broadcast_initial_state(self)
        return super().fit(*args, **kwargs)

    def get_compile_config(self):
        # Each backend decides how to compile: JAX's choice would be slow on PyTorch.
        config = super().get_compile_config()
        return config and {**config, "jit_compile": "auto"}

    def get_config(self):
        return {
            **super().get_config(),
            "encoder": json.loads(self._encoder),
            "num_classes": self.num_classes,
            "image_size": list(self.image_size),
            "masks": self.masks,
            "settings": dataclasses.asdict(self.settings),
            "class_counts": self.class_counts,
            "window_size": self.window_size,
            "global_blocks": None if self.global_blocks is None else list(self.global_blocks),
            "drop_path_rate": self.drop_path_rate,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        encoder = keras.saving.deserialize_keras_object(config["encoder"])
        return cls(**{**config, "encoder": encoder, "settings": DetectorSettings(**config["settings"])})
