"""The smallest SiameseIM that has everything, and batches for it."""

import numpy as np

from keras_siamim import AdamW, CosineMomentum, SiameseIM, ViTEncoder, warmup_cosine

IMAGE_SIZE, PATCH_SIZE, GRID = (16, 24), 8, (2, 3)


def nano_model(dtype="float32", **changes):
    """A model of 2 x 3 patches and a few hundred weights a layer."""
    encoder = ViTEncoder(IMAGE_SIZE, PATCH_SIZE, width=12, depth=2, num_heads=3, dtype=dtype, name="encoder")
    settings = {"decoder_width": 16, "decoder_heads": 2, "projector_depth": 1, "decoder_depth": 1, **changes}
    return SiameseIM(encoder, target_momentum=CosineMomentum(0.9, 20), dtype=dtype, **settings)


def compiled_nano_model(dtype="float32", optimizer=None, model=None, **compile_arguments):
    """The same, compiled with the whole optimiser."""
    model = nano_model(dtype, **(model or {}))
    model.compile(AdamW(warmup_cosine(1e-2, 2, 20), global_clipnorm=1.0, **(optimizer or {})), **compile_arguments)
    return model


def nano_batch(size=8, seed=0):
    """Random views with random geometry and two visible patches."""
    rng = np.random.default_rng(seed)
    scales = rng.uniform(0.5, 1.5, (size, 2)) * np.where(rng.random((size, 2)) < [0, 0.5], -1, 1)
    return {
        "view_1": rng.normal(size=(size, *IMAGE_SIZE, 3)).astype("float32"),
        "view_2": rng.normal(size=(size, *IMAGE_SIZE, 3)).astype("float32"),
        "relative_affine": np.concatenate([rng.uniform(-0.5, 0.5, (size, 2)), scales], axis=1).astype("float32"),
        "visible_ids": np.sort(np.argsort(rng.random((size, 6)), axis=1)[:, :2], axis=1).astype("int32"),
    }
