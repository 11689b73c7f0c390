"""Which replay a recording needs."""

import pathlib

import numpy as np

from keras_siamim.verification import mae, moco_v3, siamese_im, tables, vit_classifier

METHODS = {
    "MAE": mae.replay,
    "MoCoV3": moco_v3.replay,
    "SiameseIM": siamese_im.replay,
    "ViTClassifier": vit_classifier.replay,
}


def replay_recording(path):
    """Build what a recording's `config/...` says, load its weights, replay its inputs and compare.

    Args:
        path: An `.npz` file.

    Returns:
        List of `Row`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of a kind that is not replayed.
    """
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"There is no recording {str(path)!r}.")
    with np.load(path) as file:
        recording = {key: file[key] for key in file.files}
    if "config/method" not in recording:
        return tables.replay(recording)
    method = str(recording["config/method"])
    if method not in METHODS:
        raise ValueError(f"`config/method` must be one of {', '.join(METHODS)}. Received: {method!r}.")
    return METHODS[method](recording)
