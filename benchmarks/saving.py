"""What checkpoints cost training: `python -m benchmarks.saving [--recipe siamese_im_vit_tiny_32px] [--batches 40]`.

Trains on random batches of the recipe's shapes without checkpoints, with three of them in the training thread, and with
three in the background, and prints how long a save stops training, and which share of training that is when one is made
every `--save-minutes`.
"""

import argparse
import pathlib
import tempfile
import time

import keras
import numpy as np

from keras_siamim.recipes import build_masking, build_model, compile_model, load_recipe
from keras_siamim.runs.checkpoint_files import CheckpointFiles, Progress
from keras_siamim.runs.exact_checkpoint import ExactCheckpoint
from keras_siamim.runs.training_state import training_state


def main():
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="siamese_im_vit_tiny_32px")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--save-minutes", type=float, default=15.0)
    options = parser.parse_args()
    recipe = load_recipe(options.recipe, batch_size=options.batch_size)
    model = compile_model(build_model(recipe, 1000), recipe, 1000)
    batch = random_batch(recipe, model)
    model.train_on_batch(batch)  # compiles
    size = sum(array.nbytes for array in training_state(model).values())
    print(
        f"{options.recipe} on {keras.config.backend()}: {size / 1e6:.0f} MB of state, batch size {options.batch_size}"
    )
    with tempfile.TemporaryDirectory() as folder:
        without = seconds(model, batch, options.batches, None)
        print(f"{1000 * without / options.batches:.0f} ms a batch without checkpoints")
        for background in (False, True):
            files = CheckpointFiles(pathlib.Path(folder) / str(background))
            checkpoint = ExactCheckpoint(files, 10**9, options.batches // 3, None, background)
            checkpoint.start_at(Progress(), model)
            extra = seconds(model, batch, options.batches, checkpoint) - without
            stopped, thread = checkpoint.seconds / checkpoint.saves, "background" if background else "training thread"
            share = stopped / (60 * options.save_minutes)
            print(
                f"{thread}: training stops for {stopped:.2f} s a save, {share:.3%} of a save every "
                f"{options.save_minutes:g} minutes; {checkpoint.saves} saves made {options.batches} batches "
                f"{extra:+.2f} s longer"
            )


def random_batch(recipe, model):
    """One batch as `keras_siamim.batch` describes it."""
    rng, size = np.random.default_rng(0), recipe.batch_size
    shape = (size, *model.encoder.image_size, 3)
    batch = {name: rng.normal(size=shape).astype("float32") for name in ("view_1", "view_2")}
    batch["relative_affine"] = np.tile(np.array([0, 0, 1, 1], "float32"), (size, 1))
    if recipe.masking is not None:
        masking = build_masking(recipe, model.encoder.grid)
        batch["visible_ids"] = masking.visible_ids(0, 0, np.arange(size)).numpy()
    return {key: batch[key] for key in model.batch_keys}


def seconds(model, batch, batches, checkpoint):
    """Time of some batches, until what was saved is on the disk."""
    start = time.perf_counter()
    for number in range(batches):
        if number == 0 and checkpoint is not None:
            checkpoint.set_model(model)
            checkpoint.on_epoch_begin(0)
        logs = model.train_on_batch(batch, return_dict=True)
        if checkpoint is not None:
            checkpoint.on_train_batch_end(number, logs)
    if checkpoint is not None:
        checkpoint.wait()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
