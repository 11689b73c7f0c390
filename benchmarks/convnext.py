"""Training steps of SiameseIM with a ConvNeXt and with a ViT of equal operations, on equal grids.

    python -m benchmarks.convnext [--backends torch tensorflow jax] [--batch 128] [--rounds 5]

Three programs per backend alternate: the ViT and the ConvNeXt of the recipes for 64 pixels with half of the cells
visible, and the ConvNeXt with all of them. The last one shows what the encoder saves because only its depthwise
convolutions run on masked cells. A masked convolution that computes everywhere and multiplies by the mask, as usual for
ConvNets, takes as long as the last one in the encoder of the online branch.
"""

import argparse
from collections.abc import Callable

from benchmarks.interleaved import compare, serve
from benchmarks.tables import table

VIT = {"image_size": 64, "encoder.patch_size": 8}
PROGRAMS = {
    "ViT": ("siamese_im_vit_mini_32px", VIT, 0.5),
    "ConvNeXt": ("siamese_im_convnext_mini_64px", {}, 0.5),
    "ConvNeXt, all cells visible": ("siamese_im_convnext_mini_64px", {}, 1.0),
}


def make_step(program: str, batch_size: int) -> Callable[[], float]:
    """Build a model and return a function that runs one step on random views.

    Args:
        program: Key of `PROGRAMS`.
        batch_size: Images per step.
    """
    import numpy as np

    from keras_siamim.recipes import build_model, compile_model, load_recipe

    recipe, changes, share = PROGRAMS[program]
    loaded = load_recipe(recipe, **changes)
    model = compile_model(build_model(loaded, 1000), loaded, 100)
    rng = np.random.default_rng(0)
    views = rng.normal(size=(2, batch_size, 64, 64, 3)).astype("float32")
    cells = model.encoder.grid[0] * model.encoder.grid[1]
    order = np.argsort(rng.random((batch_size, cells)), axis=1)[:, : round(share * cells)]
    batch = {
        "view_1": views[0],
        "view_2": views[1],
        "relative_affine": np.tile(np.float32([0.1, 0.1, 0.8, 0.8]), (batch_size, 1)),
        "visible_ids": np.sort(order, axis=1).astype("int32"),
    }
    return lambda: float(np.atleast_1d(model.train_on_batch(batch))[0])


def main() -> None:
    """Run all programs, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", nargs="+", default=["torch", "tensorflow", "jax"])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", metavar="BACKEND:PROGRAM", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(lambda: make_step(options.worker.partition(":")[2], options.batch))
        return
    rows = []
    for backend in options.backends:
        programs = [f"{backend}:{name}" for name in PROGRAMS]
        found = compare("benchmarks.convnext", ["--batch", str(options.batch)], options.rounds, programs=programs)
        vit = found[programs[0]]
        for name, row in zip(PROGRAMS, found.values(), strict=True):
            times = (f"{1e3 * row['median']:.0f}", f"{row['median'] / vit['median']:.2f}")
            rows.append([backend, name, *times, f"{row['peak']:.0f}", f"{row['first']:.0f}"])
    print(table(["backend", "program", "ms per step", "time over ViT's", "peak MiB", "first step, s"], rows))


if __name__ == "__main__":
    main()
