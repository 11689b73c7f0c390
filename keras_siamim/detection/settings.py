"""Numbers of a detector."""

import dataclasses
from typing import Any

from keras_siamim.arguments import number_in, whole_number

_COUNTS = (
    "anchors_sampled",
    "pre_nms_train",
    "pre_nms_test",
    "post_nms_train",
    "post_nms_test",
    "regions_sampled",
    "detections",
    "pyramid_width",
    "head_width",
    "dense_width",
)
_SHARES = (
    "anchor_positive_fraction",
    "region_positive_fraction",
    "proposal_nms_threshold",
    "score_threshold",
    "nms_threshold",
)


@dataclasses.dataclass(frozen=True)
class DetectorSettings:
    """Numbers of ViTDet with Mask R-CNN. The defaults are detectron2's for COCO at 1024 pixels.

    Attributes:
        anchor_sizes: Five floats. Square roots of the areas of anchors in pixels, one per level.
        aspect_ratios: Floats. Heights of anchors over widths.
        anchors_sampled: int. Anchors per image in the loss of the region proposal network.
        anchor_positive_fraction: float in [0, 1]. Largest share of positive ones among them.
        pre_nms_train: int. Proposals per level and image before suppression, in training.
        pre_nms_test: int. The same for predictions.
        post_nms_train: int. Proposals per image after suppression, in training.
        post_nms_test: int. The same for predictions.
        proposal_nms_threshold: float in [0, 1]. Largest IoU of two proposals of a level.
        regions_sampled: int. Regions per image in the losses of the heads.
        region_positive_fraction: float in [0, 1]. Largest share of regions with an object.
        canonical_size: float. Side in pixels of the square box that is pooled from `canonical_level`. It scales with
            the image size.
        canonical_level: int. Level of the patch grid is 4.
        score_threshold: float in [0, 1]. Detections have a higher score.
        nms_threshold: float in [0, 1]. Largest IoU of two detections of a class.
        detections: int. Largest number of detections per image.
        pyramid_width: int. Channels of the feature pyramid.
        head_width: int. Channels of the convolutions of both heads.
        dense_width: int. Channels of the dense layer of the box head.
        sigmoid: bool. Whether each class has a probability of its own, as for LVIS, instead of a softmax.
        federated_classes: int. Least number of classes in the loss of a batch, if the detector knows class counts.

    Raises:
        ValueError: If a value is out of its range.
    """

    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512)
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    anchors_sampled: int = 256
    anchor_positive_fraction: float = 0.5
    pre_nms_train: int = 2000
    pre_nms_test: int = 1000
    post_nms_train: int = 1000
    post_nms_test: int = 1000
    proposal_nms_threshold: float = 0.7
    regions_sampled: int = 512
    region_positive_fraction: float = 0.25
    canonical_size: float = 224
    canonical_level: int = 4
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    detections: int = 100
    pyramid_width: int = 256
    head_width: int = 256
    dense_width: int = 1024
    sigmoid: bool = False
    federated_classes: int = 50

    def __post_init__(self) -> None:
        for name in ("anchor_sizes", "aspect_ratios"):
            object.__setattr__(self, name, tuple(number_in(name, value, "(0, inf)") for value in getattr(self, name)))
        if len(self.anchor_sizes) != 5:
            raise ValueError(f"`anchor_sizes` must be five numbers. Received: {self.anchor_sizes}.")
        for name in _COUNTS:
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        number_in("canonical_size", self.canonical_size, "(0, inf)")
        for name in _SHARES:
            number_in(name, getattr(self, name), "[0, 1]")

    @classmethod
    def lvis(cls, **changes: Any) -> "DetectorSettings":
        """Return the settings for LVIS: probabilities per class, a lower score threshold, 300 detections per image.

        Args:
            **changes: Attributes that differ.

        Example:
            >>> from keras_siamim.detection import DetectorSettings
            >>> DetectorSettings.lvis().detections
            300
        """
        return cls(**{"sigmoid": True, "score_threshold": 0.02, "detections": 300, **changes})
