"""What is measured: sizes, batches and the models of the three objectives."""

from typing import NamedTuple

import numpy as np

MASK_RATIO = {"SiameseIM": 0.6, "MAE": 0.75}
OBJECTIVES = ("SiameseIM", "MAE", "MoCoV3")


class Setting(NamedTuple):
    """One size.

    Attributes:
        size: Name in `VIT_SIZES`.
        patch_size: Pixels a side.
        image_size: Pixels a side.
        batch: Images a step.
        decoder_width: Of SiameseIM's projector and decoder; MAE's decoder is no wider than the paper's 512.
        decoder_heads: Their attention heads.
    """

    size: str
    patch_size: int
    image_size: int
    batch: int
    decoder_width: int
    decoder_heads: int

    @property
    def patches(self):
        """Patches of a view."""
        return (self.image_size // self.patch_size) ** 2

    def visible(self, objective):
        """Patches that an objective's encoder sees of view 1."""
        return self.patches - round(MASK_RATIO.get(objective, 0) * self.patches)


SETTINGS = {
    "tiny4-32": Setting("tiny", 4, 32, 64, 192, 3),
    "small16-112": Setting("small", 16, 112, 64, 384, 6),
    "small16-224": Setting("small", 16, 224, 16, 384, 6),
    "base16-224": Setting("base", 16, 224, 8, 768, 16),
}


def batch_of(objective, setting, seed=0):
    """Random views with random geometry: a dictionary of NumPy arrays as `keras_siamim.batch` has it."""
    rng = np.random.default_rng(seed)
    images, patches = setting.batch, setting.patches
    shape = (images, setting.image_size, setting.image_size, 3)
    scales = rng.uniform(0.5, 1.5, (images, 2)) * np.where(rng.random((images, 2)) < [0, 0.5], -1, 1)
    order = np.argsort(rng.random((images, patches)), axis=1)[:, : setting.visible(objective)]
    return {
        "view_1": rng.normal(size=shape).astype("float32"),
        "view_2": rng.normal(size=shape).astype("float32"),
        "relative_affine": np.concatenate([rng.uniform(-0.5, 0.5, (images, 2)), scales], axis=1).astype("float32"),
        "visible_ids": np.sort(order, axis=1).astype("int32"),
    }


def model_of(objective, setting, dtype="float32", **options):
    """A compiled Keras model.

    Args:
        objective: One of `OBJECTIVES`.
        setting: A `Setting`.
        dtype: Keras's dtype policy.
        **options: Of the objective's constructor.
    """
    import keras_siamim as ks

    encoder = ks.ViTEncoder.from_preset(
        f"vit_{setting.size}_patch{setting.patch_size}_{setting.image_size}",
        dtype=dtype,
        final_norm=objective != "SiameseIM",
    )
    if objective == "SiameseIM":
        options |= {"decoder_width": setting.decoder_width, "decoder_heads": setting.decoder_heads}
    elif objective == "MAE":
        width = min(512, setting.decoder_width)
        options |= {"decoder_width": width, "decoder_heads": width // 32}
    model = getattr(ks, objective)(encoder, dtype=dtype, **options)
    model.compile(ks.AdamW(1e-4, global_clipnorm=1.0))
    return model


def plain_of(setting):
    """The plain PyTorch peer of SiameseIM."""
    from benchmarks.plain_pytorch import PlainSiameseIM, PlainStep
    from keras_siamim.backbones import VIT_SIZES

    size = VIT_SIZES[setting.size]
    model = PlainSiameseIM(
        setting.image_size,
        setting.patch_size,
        size["width"],
        size["depth"],
        size["num_heads"],
        setting.decoder_width,
        setting.decoder_heads,
    )
    return PlainStep(model)
