"""Floating-point operations of one training step, counted from its shapes.

A product of (m, k) by (k, n) takes 2 m k n. Matrix products alone count, as usual: norms, GELU, softmax and the
optimizer are small beside them. A gradient takes twice the forward pass: one product for the input, one for
the weights.
"""

from keras_siamim.backbones import VIT_SIZES


def product(rows, inner, columns):
    """Of one matrix product."""
    return 2 * rows * inner * columns


def block(tokens, width, mlp_ratio=4):
    """Of one transformer block, forward, one image: qkv, attention twice, projection, MLP."""
    dense = product(tokens, width, (3 + 1 + 2 * mlp_ratio) * width)
    return dense + 2 * product(tokens, width, tokens)


def siamese_im(size, patches, visible, pixels, decoder_width, projector_depth=2, decoder_depth=4, scale=True):
    """Of one image in a step of SiameseIM; the target goes forward only, and no gradient reaches the patches.

    Args:
        size: Name in `VIT_SIZES`.
        patches: Of a view.
        visible: Patches that the online encoder sees.
        pixels: Numbers of a patch.
        decoder_width: Of projector and decoder.
        projector_depth: Its blocks.
        decoder_depth: Its blocks.
        scale: Whether the decoder is told the size of view 2's patches.
    """
    width, depth = VIT_SIZES[size]["width"], VIT_SIZES[size]["depth"]

    def branch(tokens):
        return (
            depth * block(tokens, width)
            + product(tokens, width, decoder_width)
            + projector_depth * block(tokens, decoder_width)
        )

    # No gradient reaches the positions.
    positions = 2 * product(
        patches, 2 * decoder_width if scale else decoder_width, decoder_width
    )  # no gradient to them
    decoder = decoder_depth * block(1 + visible + patches, decoder_width) + product(
        patches, decoder_width, decoder_width
    )
    # The correlation of the targets, and its product with the predictions, which goes back to the predictions alone.
    loss = 3 * product(patches, decoder_width, decoder_width)
    embedding = product(visible + patches, pixels, width)
    return embedding + 3 * (branch(1 + visible) + decoder) + positions + branch(1 + patches) + loss


def mae(size, patches, visible, pixels, decoder_width, decoder_depth=8):
    """Of one image in a step of MAE, whose patch embedding is trained."""
    width, depth = VIT_SIZES[size]["width"], VIT_SIZES[size]["depth"]
    encoder = depth * block(1 + visible, width) + product(1 + visible, width, decoder_width)
    decoder = decoder_depth * block(1 + patches, decoder_width) + product(1 + patches, decoder_width, pixels)
    return 3 * (encoder + decoder) + 2 * product(visible, pixels, width)


def moco_v3(size, patches, pixels, batch, projector_width=4096, embedding_width=256):
    """Of one image in a step of MoCo v3: both views through both branches, the target forward only."""
    width, depth = VIT_SIZES[size]["width"], VIT_SIZES[size]["depth"]
    branch = depth * block(1 + patches, width) + sum(
        product(1, a, b)
        for a, b in ((width, projector_width), (projector_width, projector_width), (projector_width, embedding_width))
    )
    predictor = product(1, embedding_width, projector_width) + product(1, projector_width, embedding_width)
    similarity = 2 * product(1, embedding_width, batch)  # no gradient to the keys
    embedding = 2 * product(patches, pixels, width)
    return 2 * (embedding + 4 * branch + 3 * predictor + similarity)


def of_step(objective, setting):
    """Of one step of a `benchmarks.step.settings.Setting`."""
    pixels = 3 * setting.patch_size**2
    visible = setting.visible(objective)
    if objective == "SiameseIM":
        image = siamese_im(setting.size, setting.patches, visible, pixels, setting.decoder_width)
    elif objective == "MAE":
        image = mae(setting.size, setting.patches, visible, pixels, min(512, setting.decoder_width))
    else:
        image = moco_v3(setting.size, setting.patches, pixels, setting.batch)
    return setting.batch * image
