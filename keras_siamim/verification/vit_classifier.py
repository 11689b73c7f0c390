"""Comparison with a ViT classifier with mean pooling: tokens, pooled features, logits."""

import keras
import numpy as np
from keras import ops

from keras_siamim.convert.names import dense_names, encoder_names, norm_names
from keras_siamim.verification.report import Row, error_row
from keras_siamim.verification.weights import config_of, encoder_of, load_weights, section


def replay(recording: dict[str, np.ndarray]) -> list[Row]:
    """Compare tokens, pooled features and logits of the recorded images.

    The classifier is an encoder, LayerNorm of the mean patch token, and a dense head.

    Args:
        recording: Dictionary of the recording's arrays.

    Returns:
        List of `Row`.
    """
    config = config_of(recording)
    encoder = encoder_of(config)
    norm = keras.layers.LayerNormalization(epsilon=1e-6)
    norm.build((None, config["width"]))
    head = keras.layers.Dense(config["num_classes"])
    head.build((None, config["width"]))
    table = {**encoder_names(encoder), **norm_names(norm, "fc_norm"), **dense_names(head, "head")}
    load_weights(table, section(recording, "weights"), [("pos_embed", encoder.grid, "rows_first")])
    features = encoder(recording["images"])
    pooled = norm(ops.mean(features[:, 1:], axis=1))
    outputs = {"features": features, "pooled": pooled, "logits": head(pooled)}
    return [error_row(name, x, recording[name], 1e-4) for name, x in outputs.items()]
