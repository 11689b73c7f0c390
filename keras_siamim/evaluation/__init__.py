"""Evaluation of representations: protocols on frozen features, and fine-tuning."""

from keras_siamim.evaluation.exact_probe import exact_probe
from keras_siamim.evaluation.features import Features, extract_features
from keras_siamim.evaluation.few_shot import few_shot
from keras_siamim.evaluation.fine_tuning import fine_tune
from keras_siamim.evaluation.health import health
from keras_siamim.evaluation.knn import knn
from keras_siamim.evaluation.linear_probe import linear_probe
from keras_siamim.evaluation.result import EvaluationResult

__all__ = [
    "EvaluationResult",
    "Features",
    "exact_probe",
    "extract_features",
    "few_shot",
    "fine_tune",
    "health",
    "knn",
    "linear_probe",
]
