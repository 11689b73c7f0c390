"""Evaluation of representations: protocols on frozen features, and fine-tuning."""

from keras_siamim.evaluation.attentive_probe import attentive_probe
from keras_siamim.evaluation.box_localization import box_localization
from keras_siamim.evaluation.exact_probe import exact_probe
from keras_siamim.evaluation.features import Features, extract_features
from keras_siamim.evaluation.few_shot import few_shot
from keras_siamim.evaluation.fine_tuning import fine_tune
from keras_siamim.evaluation.health import health
from keras_siamim.evaluation.knn import knn
from keras_siamim.evaluation.knn_segmentation import knn_segmentation
from keras_siamim.evaluation.linear_probe import linear_probe
from keras_siamim.evaluation.logistic_segmentation import logistic_segmentation
from keras_siamim.evaluation.long_tailed_probe import long_tailed_probe
from keras_siamim.evaluation.mean_iou import MeanIoU
from keras_siamim.evaluation.object_discovery import extract_keys, object_discovery
from keras_siamim.evaluation.patch_features import PatchFeatures, RawPatches, extract_patch_features
from keras_siamim.evaluation.result import EvaluationResult

__all__ = [
    "EvaluationResult",
    "Features",
    "MeanIoU",
    "PatchFeatures",
    "RawPatches",
    "attentive_probe",
    "box_localization",
    "exact_probe",
    "extract_features",
    "extract_patch_features",
    "extract_keys",
    "few_shot",
    "fine_tune",
    "health",
    "knn",
    "knn_segmentation",
    "linear_probe",
    "logistic_segmentation",
    "long_tailed_probe",
    "object_discovery",
]
