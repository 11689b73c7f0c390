"""Replay of the authors' MoCo v3 program: one momentum update, forward and backward pass."""

from keras import ops

from keras_siamim import batch as keys
from keras_siamim.convert.names import moco_v3_names, to_keras
from keras_siamim.objectives import MoCoV3
from keras_siamim.optimizers import GradientKeepingAdamW
from keras_siamim.verification.gradients import gradient_rows
from keras_siamim.verification.report import Row, relative_error
from keras_siamim.verification.weights import config_of, encoder_of, load_weights, section

POSITIONS = ("base_encoder.pos_embed", "momentum_encoder.pos_embed")


def build(recording):
    """The recorded model with its weights, compiled."""
    config = config_of(recording)
    encoder = encoder_of(config, final_norm=True)
    model = MoCoV3(
        encoder,
        projector_width=config["projector_width"],
        embedding_width=config["embedding_width"],
        temperature=float(recording["temperature"]),
        train_patch_embedding=config["train_patch_embedding"],
        target_momentum=float(recording["momentum"]),
    )
    # The authors' [sin x, cos x, sin y, cos y] runs over a grid laid out column by column: our rows come first.
    positions = [(name, encoder.grid, "rows_first") for name in POSITIONS]
    load_weights(moco_v3_names(model), section(recording, "weights"), positions)
    model.compile(GradientKeepingAdamW(1e-3))
    return model


def replay(recording):
    """Rows for queries, keys, loss, gradients and the target after its update."""
    model = build(recording)
    batch = {keys.VIEW_1: recording["view1"], keys.VIEW_2: recording["view2"]}
    model.update_target()
    outputs = model(batch, training=True)
    recorded = {"query_1": "q1", "query_2": "q2", "key_1": "k1", "key_2": "k2"}
    rows = [
        Row(name, relative_error(ops.convert_to_numpy(outputs[ours]), recording[name]), 1e-4)
        for ours, name in recorded.items()
    ]
    model = build(recording)
    table = moco_v3_names(model)
    loss = model.train_on_batch(batch, return_dict=True)["loss"]
    rows.append(Row("loss", relative_error(loss, recording["loss"]), 1e-5))
    rows += gradient_rows(model, table, section(recording, "grad"))
    after = {name: value for name, value in section(recording, "after").items() if name not in POSITIONS}
    errors = [
        relative_error(ops.convert_to_numpy(table[name].variable), to_keras(value, table[name]))
        for name, value in after.items()
    ]
    return [*rows, Row(f"{len(errors)} target weights", max(errors), 1e-6)]
