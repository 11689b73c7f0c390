"""Replay of the authors' SiameseIM program: two steps of training."""

import numpy as np
from keras import ops

from keras_siamim import batch as keys
from keras_siamim.convert.names import siamese_im_names, to_keras
from keras_siamim.losses import UniGrad
from keras_siamim.objectives import SiameseIM
from keras_siamim.optimizers import GradientKeepingAdamW
from keras_siamim.verification.gradients import gradient_rows
from keras_siamim.verification.report import Row, relative_error
from keras_siamim.verification.weights import config_of, encoder_of, load_weights, section

INTERMEDIATES = ("encoded", "projected", "decoder_in", "decoded", "prediction", "target")


def build(recording):
    """The recorded model with its weights, compiled as it was trained."""
    config = config_of(recording)
    encoder = encoder_of(config, layer_scale_init=config["layer_scale"] or None)
    momenta = np.array([recording["step0/momentum"], recording["step1/momentum"]], dtype="float32")
    model = SiameseIM(
        encoder,
        decoder_width=config["decoder_width"],
        decoder_heads=config["decoder_heads"],
        projector_depth=config["projector_depth"],
        decoder_depth=config["predictor_depth"],
        projector_norm=config["projector_norm"],
        decoder_norm=config["predictor_norm"],
        train_patch_embedding=config["train_patch_embedding"],
        normalize_prediction=config["normalize_prediction"],
        loss=UniGrad(config["negative_weight"]),
        target_momentum=lambda step: ops.take(ops.convert_to_tensor(momenta), step),
    )
    positions = [(name, encoder.grid, "rows_first") for name in ("pos_embed", "decoder_pos_embed")]
    load_weights(siamese_im_names(model), section(recording, "weights"), positions)
    model.compile(
        GradientKeepingAdamW(
            config["learning_rate"],
            weight_decay=config["weight_decay"],
            beta_1=config["beta_1"],
            beta_2=config["beta_2"],
            global_clipnorm=config["clip_norm"],
        )
    )
    return model


def batch_of(step):
    """A training batch from the views, mask (1 = masked) and six geometry numbers of one recorded step."""
    flip = step["geometry/relative_flip"] > 0
    affine = [
        step["geometry/delta_i"],
        np.where(flip, step["geometry/flip_delta_j"], step["geometry/delta_j"]),
        step["geometry/delta_h"],
        np.where(flip, -step["geometry/delta_w"], step["geometry/delta_w"]),
    ]
    masks = step["mask"].reshape(len(step["mask"]), -1)
    return {
        keys.VIEW_1: step["view1"],
        keys.VIEW_2: step["view2"],
        keys.RELATIVE_AFFINE: np.stack(affine, axis=-1).astype("float32"),
        keys.VISIBLE_IDS: np.stack([np.flatnonzero(mask == 0) for mask in masks]).astype("int32"),
    }


def replay(recording):
    """Replay both steps; rows for the tensors on the way, losses, gradients and weights."""
    first, second = section(recording, "step0"), section(recording, "step1")
    model = build(recording)
    rows = _intermediate_rows(model, first)
    model = build(recording)
    table = siamese_im_names(model)
    logs = _train(model, batch_of(first))
    rows += _loss_rows("step 0", logs, first, 1e-5)
    rows += gradient_rows(model, table, section(first, "grad"), "step 0: ")
    rows.append(_norm_row("step 0", model, first["grad_norm"]))
    rows += _weight_rows(model, table, first)
    rows += _loss_rows("step 1", _train(model, batch_of(second)), second, 1e-4)
    rows.append(_norm_row("step 1", model, second["grad_norm"]))
    return rows


def _intermediate_rows(model, step):
    model.update_target()
    ours = model.intermediates(batch_of(step), training=True)
    ours["decoded"] = model.head(ours["decoded"])  # the authors' program applies the head to every token
    return [Row(name, relative_error(ops.convert_to_numpy(ours[name]), step[name]), 1e-4) for name in INTERMEDIATES]


def _train(model, batch):
    model.reset_metrics()
    return model.train_on_batch(batch, return_dict=True)


def _loss_rows(title, logs, step, tolerance):
    names = ("loss", "positive_term", "negative_term")
    return [Row(f"{title}: {name}", relative_error(logs[name], step[name]), tolerance) for name in names]


def _norm_row(title, model, recorded):
    norm = np.sqrt(sum(np.square(ops.convert_to_numpy(g).astype("float64")).sum() for g in model.optimizer.gradients))
    return Row(f"{title}: gradient norm", relative_error(norm, recorded), 1e-4)


def _weight_rows(model, table, step):
    """Target weights relative to their largest; online weights in learning rates, where Adam's step is no noise."""
    gradients = section(step, "grad")
    noise = 1e-5 * max(np.abs(gradient).max() for gradient in gradients.values())
    rate = float(ops.convert_to_numpy(model.optimizer.learning_rate))
    target, online, frozen, left_out = {}, {}, {}, 0
    for name, recorded in section(step, "after").items():
        slot = table[name]
        ours, recorded = ops.convert_to_numpy(slot.variable), to_keras(recorded, slot)
        if name.startswith("mm_"):
            target[name] = relative_error(ours, recorded)
        elif name in gradients:
            kept = np.abs(to_keras(gradients[name], slot)) >= noise
            left_out += np.count_nonzero(~kept)
            online[name] = relative_error(ours[kept], recorded[kept], rate)
        else:
            frozen[name] = relative_error(ours, recorded)
    rows = [
        Row(f"step 0: {len(target)} target weights", max(target.values()), 1e-6),
        Row(
            f"step 0: {len(online)} online weights",
            max(online.values()),
            0.02,
            f"in learning rates; {left_out} left out",
        ),
    ]
    if frozen:
        rows.append(Row(f"step 0: {len(frozen)} frozen weights", max(frozen.values()), 0.0))
    return rows
