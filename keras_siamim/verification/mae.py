"""Replay of the authors' MAE program: one forward and backward pass."""

import numpy as np
from keras import ops

from keras_siamim import batch as keys
from keras_siamim.convert.names import mae_names
from keras_siamim.objectives import MAE
from keras_siamim.optimizers import GradientKeepingAdamW
from keras_siamim.verification.gradients import gradient_rows
from keras_siamim.verification.report import Row, relative_error
from keras_siamim.verification.weights import config_of, encoder_of, load_weights, section


def build(recording):
    """The recorded model with its weights, compiled."""
    config = config_of(recording)
    encoder = encoder_of(config, final_norm=True, axis_order="columns_first")
    model = MAE(
        encoder,
        decoder_width=config["decoder_width"],
        decoder_heads=config["decoder_heads"],
        decoder_depth=config["decoder_depth"],
        normalize_pixels=config["normalize_pixels"],
    )
    positions = [(name, encoder.grid, encoder.axis_order) for name in ("pos_embed", "decoder_pos_embed")]
    load_weights(mae_names(model), section(recording, "weights"), positions)
    model.compile(GradientKeepingAdamW(1e-3))
    return model


def replay(recording):
    """Rows for latents, predictions, masks, loss and gradients.

    The authors keep the patches of smallest noise in the order of their noise, we in the order of their place: latents
    are compared patch by patch.
    """
    model = build(recording)
    noise, patches = recording["noise"], recording["noise"].shape[1]
    by_noise = np.argsort(noise, axis=1)[:, : int(patches * (1 - recording["mask_ratio"]))]
    batch = {keys.VIEW_1: recording["images"], keys.VISIBLE_IDS: np.sort(by_noise, axis=1).astype("int32")}

    latent = ops.convert_to_numpy(model.encoder(batch[keys.VIEW_1], batch[keys.VISIBLE_IDS], training=True))
    place = 1 + np.argsort(np.argsort(by_noise, axis=1), axis=1)
    place = np.concatenate([np.zeros_like(place[:, :1]), place], axis=1)
    outputs = {name: ops.convert_to_numpy(value) for name, value in model(batch, training=True).items()}
    loss = model.train_on_batch(batch, return_dict=True)["loss"]
    return [
        Row("latent", relative_error(np.take_along_axis(latent, place[:, :, None], axis=1), recording["latent"]), 1e-4),
        Row("prediction", relative_error(outputs["prediction"], recording["prediction"]), 1e-4),
        Row("mask", relative_error(outputs["masked"], recording["mask"]), 0.0),
        Row("loss", relative_error(loss, recording["loss"]), 1e-5),
        *gradient_rows(model, mae_names(model), section(recording, "grad")),
    ]
