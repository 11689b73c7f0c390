"""Data pipeline from stored images to training batches, whose schema is `keras_siamim.batch`.

The pipeline uses `tf.data` and feeds all three backends.
"""

import importlib
from typing import Any

_MODULES = {
    "Masking": "masking",
    "PairedViews": "views.paired_views",
    "ViewRecipe": "views.recipe",
    "evaluation_batches": "pipeline",
    "open_source": "sources",
    "training_batches": "pipeline",
}

__all__ = ["Masking", "PairedViews", "ViewRecipe", "evaluation_batches", "open_source", "training_batches"]


# Imported on first use, so that models work without TensorFlow.
def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
