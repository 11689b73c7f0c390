"""Comparison with the authors' MAE program: one forward and backward pass."""

import numpy as np
from keras import ops

from keras_siamim import batch as keys
from keras_siamim.convert.names import mae_names
from keras_siamim.objectives import MAE
from keras_siamim.optimizers import GradientKeepingAdamW
from keras_siamim.verification.gradients import gradient_rows
from keras_siamim.verification.report import Row, relative_error
from keras_siamim.verification.weights import config_of, encoder_of, load_weights, section


def build(recording: dict[str, np.ndarray]) -> MAE:
    """Build the recorded model, load its weights and compile it.

    Args:
        recording: Dictionary of the recording's arrays.
    """
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


def replay(recording: dict[str, np.ndarray]) -> list[Row]:
    """Compare latents, predictions, masks, loss and gradients.

    Args:
        recording: Dictionary of the recording's arrays.

    Returns:
        List of `Row`.
    """
    model = build(recording)
    noise, patches = recording["noise"], recording["noise"].shape[1]
    by_noise = np.argsort(noise, axis=1)[:, : int(patches * (1 - recording["mask_ratio"]))]
    batch = {keys.VIEW_1: recording["images"], keys.VISIBLE_IDS: np.sort(by_noise, axis=1).astype("int32")}

    latent = ops.convert_to_numpy(model.encoder(batch[keys.VIEW_1], batch[keys.VISIBLE_IDS], training=True))
    # The authors keep visible patches sorted by noise; here they are sorted by index.
    order = 1 + np.argsort(np.argsort(by_noise, axis=1), axis=1)
    order = np.concatenate([np.zeros_like(order[:, :1]), order], axis=1)
    outputs = {name: ops.convert_to_numpy(value) for name, value in model(batch, training=True).items()}
    loss = model.train_on_batch(batch, return_dict=True)["loss"]
    return [
        Row("latent", relative_error(np.take_along_axis(latent, order[:, :, None], axis=1), recording["latent"]), 1e-4),
        Row("prediction", relative_error(outputs["prediction"], recording["prediction"]), 1e-4),
        Row("mask", relative_error(outputs["masked"], recording["mask"]), 0.0),
        Row("loss", relative_error(loss, recording["loss"]), 1e-5),
        *gradient_rows(model, mae_names(model), section(recording, "grad")),
    ]
