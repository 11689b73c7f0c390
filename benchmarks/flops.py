"""FLOPs of one training step, computed from its shapes.

A matrix product of (m, k) by (k, n) takes 2 m k n. As usual, only matrix products count: norms, GELU, softmax and the
optimizer are small in comparison. The backward pass takes twice the forward pass: one product for the gradient of the
input, one for that of the weights.
"""

from benchmarks.step.settings import Setting
from keras_siamim.backbones import VIT_SIZES


def product(rows: int, inner: int, columns: int) -> int:
    """Return the FLOPs of one matrix product, (rows, inner) by (inner, columns)."""
    return 2 * rows * inner * columns


def block(tokens: int, width: int, mlp_ratio: int = 4) -> int:
    """Return the forward FLOPs per image of one transformer block: qkv, attention (twice), projection, MLP."""
    dense = product(tokens, width, (3 + 1 + 2 * mlp_ratio) * width)
    return dense + 2 * product(tokens, width, tokens)


def siamese_im(
    size: str,
    patches: int,
    visible: int,
    pixels: int,
    decoder_width: int,
    projector_depth: int = 2,
    decoder_depth: int = 4,
    scale: bool = True,
) -> int:
    """Return the FLOPs per image of a SiameseIM step.

    The target branch runs forward only, and no gradient reaches the patch embedding.

    Args:
        size: str. Name in `VIT_SIZES`.
        patches: int. Patches per view.
        visible: int. Patches of the online encoder.
        pixels: int. Values per patch.
        decoder_width: int. Channels of projector and decoder.
        projector_depth: int. Blocks of the projector. Defaults to 2.
        decoder_depth: int. Blocks of the decoder. Defaults to 4.
        scale: bool. True if the decoder's position embedding includes the scale of view 2. Defaults to True.
    """
    width, depth = VIT_SIZES[size]["width"], VIT_SIZES[size]["depth"]

    def branch(tokens):
        return (
            depth * block(tokens, width)
            + product(tokens, width, decoder_width)
            + projector_depth * block(tokens, decoder_width)
        )

    # No gradient reaches the positions.
    positions = 2 * product(patches, 2 * decoder_width if scale else decoder_width, decoder_width)
    decoder = decoder_depth * block(1 + visible + patches, decoder_width) + product(
        patches, decoder_width, decoder_width
    )
    # Correlation of the targets, and its product with the predictions, whose gradient reaches the predictions alone.
    loss = 3 * product(patches, decoder_width, decoder_width)
    embedding = product(visible + patches, pixels, width)
    return embedding + 3 * (branch(1 + visible) + decoder) + positions + branch(1 + patches) + loss


def mae(size: str, patches: int, visible: int, pixels: int, decoder_width: int, decoder_depth: int = 8) -> int:
    """Return the FLOPs per image of an MAE step, which trains its patch embedding."""
    width, depth = VIT_SIZES[size]["width"], VIT_SIZES[size]["depth"]
    encoder = depth * block(1 + visible, width) + product(1 + visible, width, decoder_width)
    decoder = decoder_depth * block(1 + patches, decoder_width) + product(1 + patches, decoder_width, pixels)
    return 3 * (encoder + decoder) + 2 * product(visible, pixels, width)


def moco_v3(
    size: str, patches: int, pixels: int, batch: int, projector_width: int = 4096, embedding_width: int = 256
) -> int:
    """Return the FLOPs per image of a MoCo v3 step: both views in both branches, the target branch forward only."""
    width, depth = VIT_SIZES[size]["width"], VIT_SIZES[size]["depth"]
    branch = depth * block(1 + patches, width) + sum(
        product(1, a, b)
        for a, b in ((width, projector_width), (projector_width, projector_width), (projector_width, embedding_width))
    )
    predictor = product(1, embedding_width, projector_width) + product(1, projector_width, embedding_width)
    similarity = 2 * product(1, embedding_width, batch)  # no gradient to the targets
    embedding = 2 * product(patches, pixels, width)
    return 2 * (embedding + 4 * branch + 3 * predictor + similarity)


def of_step(objective: str, setting: Setting) -> int:
    """Return the FLOPs of one step of an objective at a `Setting`."""
    pixels = 3 * setting.patch_size**2
    visible = setting.visible(objective)
    if objective == "SiameseIM":
        image = siamese_im(setting.size, setting.patches, visible, pixels, setting.decoder_width)
    elif objective == "MAE":
        image = mae(setting.size, setting.patches, visible, pixels, min(512, setting.decoder_width))
    else:
        image = moco_v3(setting.size, setting.patches, pixels, setting.batch)
    return setting.batch * image
