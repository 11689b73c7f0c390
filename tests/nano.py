"""Minimal SiameseIM, MAE and MoCo v3 models, and batches for them."""

import numpy as np

from keras_siamim import AdamW, CosineMomentum, SiameseIM, SiameseIMAblation, ViTEncoder, warmup_cosine
from keras_siamim.objectives import MAE, MoCoV3

# Arguments that only `SiameseIMAblation` has.
AXES = set(SiameseIMAblation.__init__.__kwdefaults__)
IMAGE_SIZE, PATCH_SIZE, GRID = (16, 24), 8, (2, 3)


def nano_encoder(dtype="float32", **changes):
    """Create an encoder with 2 x 3 patches and two blocks of width 12."""
    return ViTEncoder(IMAGE_SIZE, PATCH_SIZE, width=12, depth=2, num_heads=3, dtype=dtype, name="encoder", **changes)


def nano_model(dtype="float32", **changes):
    """Create a SiameseIM model, or an ablation of it, with a few hundred weights per layer."""
    settings = {"decoder_width": 16, "decoder_heads": 2, "projector_depth": 1, "decoder_depth": 1, **changes}
    settings = {"target_momentum": CosineMomentum(0.9, 20), **settings}
    kind = SiameseIMAblation if AXES & settings.keys() else SiameseIM
    return kind(nano_encoder(dtype), dtype=dtype, **settings)


def nano_mae(dtype="float32", **changes):
    """Create an MAE model with the same encoder."""
    settings = {"decoder_width": 16, "decoder_heads": 2, "decoder_depth": 1, **changes}
    return MAE(nano_encoder(dtype, final_norm=True), dtype=dtype, **settings)


def nano_moco(dtype="float32", **changes):
    """Create a MoCo v3 model with the same encoder."""
    settings = {"projector_width": 16, "embedding_width": 8, "target_momentum": CosineMomentum(0.9, 20), **changes}
    return MoCoV3(nano_encoder(dtype, final_norm=True), dtype=dtype, **settings)


NANO_OBJECTIVES = {"SiameseIM": nano_model, "MAE": nano_mae, "MoCoV3": nano_moco}


def compiled_nano_model(dtype="float32", optimizer=None, model=None, **compile_arguments):
    """Create a SiameseIM model compiled with AdamW, a schedule and gradient clipping."""
    model = nano_model(dtype, **(model or {}))
    model.compile(AdamW(warmup_cosine(1e-2, 2, 20), global_clipnorm=1.0, **(optimizer or {})), **compile_arguments)
    return model


def nano_batch(size=8, seed=0):
    """Create a batch of random views with random geometry and two visible patches."""
    rng = np.random.default_rng(seed)
    scales = rng.uniform(0.5, 1.5, (size, 2)) * np.where(rng.random((size, 2)) < [0, 0.5], -1, 1)
    return {
        "view_1": rng.normal(size=(size, *IMAGE_SIZE, 3)).astype("float32"),
        "view_2": rng.normal(size=(size, *IMAGE_SIZE, 3)).astype("float32"),
        "relative_affine": np.concatenate([rng.uniform(-0.5, 0.5, (size, 2)), scales], axis=1).astype("float32"),
        "visible_ids": np.sort(np.argsort(rng.random((size, 6)), axis=1)[:, :2], axis=1).astype("int32"),
    }
