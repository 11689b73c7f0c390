"""Settings with which detectors are trained: ViTDet's for COCO and LVIS, and others for small data sets."""

import dataclasses
from collections.abc import Callable

from keras_siamim.detection.settings import DetectorSettings


@dataclasses.dataclass(frozen=True)
class DetectorRecipe:
    """Settings of a detector and of its training, without those of the data set.

    Attributes:
        image_size: int. Side of the square images in pixels.
        scale: (low, high). Range of large-scale jitter.
        steps: int. Training steps.
        batch_size: int. Images per step.
        learning_rate: float. Peak of the learning rate per 64 images.
        warmup_steps: int. Steps of linear warm-up.
        milestones: Two floats in (0, 1). Shares of the steps after which the learning rate is divided by 10.
        window_size: int. Side of the windows of attention in patches.
        repeat_threshold: float in [0, 1]. Share of images below which a class is repeated.
        detector: `DetectorSettings`.
    """

    image_size: int
    scale: tuple[float, float]
    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    milestones: tuple[float, float]
    window_size: int
    repeat_threshold: float
    detector: DetectorSettings


def coco() -> DetectorRecipe:
    """Return the recipe for COCO: 100 epochs at 1024 pixels, as the paper evaluates ViT-Base.

        keras-siamim detect --encoder RUN --data path/to/coco --masks --recipe coco --dtype mixed_bfloat16

    The paper reports box AP 52.1 and mask AP 46.2 for SiameseIM with ViT-Base; 51.6 and 45.9 for MAE. detectron2
    reports 0.31 s per step on 64 A100, which is about 1,000 GPU hours, and 11 GB of memory each. This package has not
    repeated the run.

    Source: ViTDet (arXiv 2203.16527), Appendix A.2, and detectron2's configuration.
    """
    return DetectorRecipe(
        image_size=1024,
        scale=(0.1, 2.0),
        steps=184_375,
        batch_size=64,
        learning_rate=1e-4,
        warmup_steps=250,
        milestones=(163_889 / 184_375, 177_546 / 184_375),
        window_size=14,
        repeat_threshold=0.0,
        detector=DetectorSettings(),
    )


def lvis() -> DetectorRecipe:
    """Return the recipe for LVIS v1: 100 epochs at 1024 pixels, with repeated rare classes and the federated loss.

        keras-siamim detect --encoder RUN --data path/to/lvis --masks --lvis --dtype mixed_bfloat16

    The paper reports box AP 40.5 and mask AP 38.1 for SiameseIM with ViT-Base; 40.1 and 38.1 for MAE. detectron2
    reports 0.32 s per step on 64 A100, which is about 900 GPU hours, and 14 GB of memory each. This package has not
    repeated the run.

    Source: ViTDet (arXiv 2203.16527), Appendix A.2, and detectron2's configuration.
    """
    return dataclasses.replace(
        coco(),
        steps=156_250,
        learning_rate=2e-4,
        milestones=(138_889 / 156_250, 150_463 / 156_250),
        repeat_threshold=0.001,
        detector=DetectorSettings.lvis(),
    )


def small() -> DetectorRecipe:
    """Return a recipe for a few hundred images at 128 pixels, for encoders with patches of 8 pixels.

        keras-siamim detect --encoder RUN --data path/to/images --recipe small

    Anchors, proposals, sampled regions and widths are smaller than for COCO, and jitter is weaker. 600 steps of 4
    images on 2 processor cores take a few minutes. The learning rate per image is larger; choose it on a validation
    split.
    """
    detector = DetectorSettings(
        anchor_sizes=(8, 16, 32, 64, 128),
        anchors_sampled=128,
        pre_nms_train=400,
        pre_nms_test=400,
        post_nms_train=200,
        post_nms_test=200,
        regions_sampled=64,
        canonical_size=28,
        pyramid_width=96,
        head_width=96,
        dense_width=256,
    )
    return DetectorRecipe(
        image_size=128,
        scale=(0.5, 1.5),
        steps=600,
        batch_size=4,
        learning_rate=6.4e-3,
        warmup_steps=60,
        milestones=(8 / 9, 26 / 27),
        window_size=8,
        repeat_threshold=0.0,
        detector=detector,
    )


RECIPES: dict[str, Callable[[], DetectorRecipe]] = {"coco": coco, "lvis": lvis, "small": small}


def scaled_to(recipe: DetectorRecipe, image_size: int) -> DetectorRecipe:
    """Return a recipe for images of another size: anchors and the canonical size scale with it.

    Args:
        recipe: `DetectorRecipe`.
        image_size: int. Side of the square images in pixels.

    Example:
        >>> scaled_to(small(), 256).detector.anchor_sizes
        (16.0, 32.0, 64.0, 128.0, 256.0)
    """
    factor = image_size / recipe.image_size
    old = recipe.detector
    detector = dataclasses.replace(
        old,
        anchor_sizes=tuple(factor * size for size in old.anchor_sizes),
        canonical_size=factor * old.canonical_size,
    )
    return dataclasses.replace(recipe, image_size=image_size, detector=detector)
