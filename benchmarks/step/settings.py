"""Settings of the step benchmark: sizes, batches and models of the three objectives."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import keras

    from benchmarks.plain_pytorch import PlainStep

MASK_RATIO = {"SiameseIM": 0.6, "MAE": 0.75}
OBJECTIVES = ("SiameseIM", "MAE", "MoCoV3")


class Setting(NamedTuple):
    """Size of model, images and batch.

    Attributes:
        size: Name in `VIT_SIZES`.
        patch_size: Side of the patches in pixels.
        image_size: Side of the images in pixels.
        batch: Images per step.
        decoder_width: Channels of SiameseIM's projector and decoder. MAE's decoder has at most the paper's 512.
        decoder_heads: Attention heads of SiameseIM's projector and decoder.
    """

    size: str
    patch_size: int
    image_size: int
    batch: int
    decoder_width: int
    decoder_heads: int

    @property
    def patches(self) -> int:
        """Patches per view."""
        return (self.image_size // self.patch_size) ** 2

    def visible(self, objective: str) -> int:
        """Return the number of visible patches of view 1."""
        return self.patches - round(MASK_RATIO.get(objective, 0) * self.patches)


SETTINGS = {
    "tiny4-32": Setting("tiny", 4, 32, 64, 192, 3),
    "small16-112": Setting("small", 16, 112, 32, 384, 6),
    "small16-224": Setting("small", 16, 224, 8, 384, 6),
    "base16-224": Setting("base", 16, 224, 8, 768, 16),
}


def batch_of(objective: str, setting: Setting, seed: int = 0) -> dict[str, np.ndarray]:
    """Return a batch of random views with random geometry, see `keras_siamim.batch`."""
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


def model_of(objective: str, setting: Setting, dtype: str = "float32", **options: Any) -> "keras.Model":
    """Return a compiled Keras model.

    Args:
        objective: str. One of `OBJECTIVES`.
        setting: `Setting`. Size of the model.
        dtype: str. Keras dtype policy. Defaults to "float32".
        **options: Arguments of the objective's constructor.
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


def plain_of(setting: Setting) -> "PlainStep":
    """Return the plain PyTorch baseline of SiameseIM."""
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
