"""Export under TensorFlow of a model that another backend has trained.

    python -m keras_siamim.export.worker FOLDER

`export_saved_model` starts this program. `FOLDER` holds configurations, weights, settings and the reference outputs;
the program writes `result.json` there.
"""

import importlib
import json
import sys
from pathlib import Path

import keras
import numpy as np

import keras_siamim  # noqa: F401  registers the classes that the configurations name
from keras_siamim.export.saved_model import write_version
from keras_siamim.export.versions import write_result


def load(folder: Path, name: str) -> keras.Model | None:
    """Load a model of the folder.

    Args:
        folder: `Path`. The folder.
        name: String. `"encoder"` or `"head"`.

    Returns:
        The Keras model; None if the folder has none of this name.
    """
    if not (folder / f"{name}.json").exists():
        return None
    model = keras.saving.deserialize_keras_object(json.loads((folder / f"{name}.json").read_text()))
    with np.load(folder / f"{name}.npz") as arrays:
        model.set_weights([arrays[str(index)] for index in range(len(arrays.files))])
    return model


def main(folder: Path) -> None:
    """Export the models of a folder and write the result.

    Args:
        folder: `Path`. The folder.
    """
    settings = json.loads((folder / "settings.json").read_text())
    with np.load(folder / "reference.npz") as file:
        reference = {name: file[name] for name in file.files}
    try:
        for module in settings.pop("modules", ()):  # they register the user's classes
            importlib.import_module(module)
        export = write_version(load(folder, "encoder"), load(folder, "head"), reference, settings)
    except RuntimeError as error:
        write_result(folder, str(error))
    except ImportError as error:
        write_result(folder, f"The exporting process cannot import the module of a class of the model: {error}.")
    else:
        write_result(folder, export)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
