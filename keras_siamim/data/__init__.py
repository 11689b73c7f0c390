"""From stored images to training batches, whose schema is `keras_siamim.batch`.

The pipeline is `tf.data` and feeds all three backends. TensorFlow is imported when one of the public names is used.
"""

import importlib

_MODULES = {
    "Masking": "masking",
    "PairedViews": "views.paired_views",
    "ViewRecipe": "views.recipe",
    "evaluation_batches": "pipeline",
    "open_source": "sources",
    "training_batches": "pipeline",
}

__all__ = ["Masking", "PairedViews", "ViewRecipe", "evaluation_batches", "open_source", "training_batches"]


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__():
    return __all__
