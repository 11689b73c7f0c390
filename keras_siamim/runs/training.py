"""Training of a run to its last epoch, with rollback when it diverges."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence

import keras

from keras_siamim.callbacks.divergence import Diverged, StopWhenDiverged
from keras_siamim.objectives.skipped_steps import SkipNonFiniteSteps
from keras_siamim.runs.checkpoint_files import Progress
from keras_siamim.runs.exact_checkpoint import EndOnSignal, ExactCheckpoint
from keras_siamim.runs.first_bad_tensor import first_bad_tensor
from keras_siamim.runs.training_state import MODEL
from keras_siamim.types import Batch


class TrainingFailed(Exception):
    """Error for a run that diverges even after rolling back. Its message names the first non-finite tensor."""


def resume(
    model: SkipNonFiniteSteps, stage: int, checkpoint: ExactCheckpoint, report: Callable[[str], object] = print
) -> Progress:
    """Restore a new model from the newest intact checkpoint of its run, if there is one.

    Args:
        model: Objective, or model of a task, with its initial weights, compiled for `stage`.
        stage: Integer. Number of the current `Stage` of the run, 0 for a run without further stages.
        checkpoint: `ExactCheckpoint` of the run.
        report: Function of one line of text. Defaults to `print`.

    Returns:
        The `Progress` from which training continues.

    Raises:
        ValueError: If all checkpoints are damaged, if a run without checkpoints is past its first stage, or if the
            checkpoint is of another model.
        OSError: If checkpoints cannot be written.
    """
    if not model.optimizer.built:  # on all processes, since some strategies build together
        model.optimizer.build(model.trainable_variables)
    # Quarantined checkpoints count too: a run must not silently start again from the beginning.
    had_checkpoints = bool(checkpoint.files.paths() or checkpoint.files.quarantined())
    if checkpoint.writes:
        checkpoint.files.clean(report)
    path, progress = checkpoint.files.newest(report=report) or (None, Progress())
    if path is None and had_checkpoints:
        raise ValueError(
            "`checkpoint` must have an intact file. "
            f"Received: damaged files only in {checkpoint.files.folder}. "
            "Restore one, or delete the folder to start again."
        )
    if path is None and stage:
        raise ValueError(
            f"`checkpoint` must have an intact file to continue a run. Received: none in {checkpoint.files.folder}."
        )
    if progress.stage == stage:
        checkpoint.start_at(progress, model, path)
    else:
        checkpoint.start_at(progress.reshuffled(stage=stage), model, path, groups=(MODEL,))
        model.restart_schedule()
    if path is None or progress.stage != stage:
        checkpoint.save_and_wait(model)  # for a rollback before the first regular checkpoint
    return checkpoint.progress


def train(
    model: SkipNonFiniteSteps,
    batches_from: Callable[[Progress], Iterable[Batch]],
    checkpoint: ExactCheckpoint,
    last_epoch: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    patience: int = 10,
    rollbacks: int = 2,
    report: Callable[[str], object] = print,
    verbose: int = 2,
) -> None:
    """Train a run until it has `last_epoch` epochs, and save it.

    After `patience` consecutive skipped steps, the run rolls back to the newest checkpoint and continues with another
    data order. If it diverges again at the same point, it rolls back to an older checkpoint.

    Args:
        model: Model that `resume` restored.
        batches_from: Function from a `Progress` to an infinite dataset of the training batches that follow.
        checkpoint: `ExactCheckpoint` that was given to `resume`.
        last_epoch: Integer. Total number of epochs of the run.
        callbacks: Sequence of additional callbacks. For them, the rest of an interrupted epoch is one short epoch whose
            logs are those of the complete epoch. Defaults to none.
        patience: Integer, 1 or more. Number of consecutive skipped steps before a rollback. Defaults to 10.
        rollbacks: Integer, 0 or more. Maximum number of rollbacks. Defaults to 2.
        report: Function of one line of text. Defaults to `print`.
        verbose: Integer. Verbosity of `fit`: 0, 1 or 2. Defaults to 2.

    Raises:
        TrainingFailed: If training diverges after the last rollback.
        Preempted: On SIGTERM or Ctrl-C, after saving.
        OSError: If checkpoints cannot be written.
    """
    callbacks = [*callbacks, StopWhenDiverged(patience), checkpoint]
    tried: list[int] = []
    with EndOnSignal(checkpoint):
        try:
            while True:
                try:
                    _fit(model, batches_from, checkpoint, last_epoch, callbacks, verbose)
                    break
                except Diverged as diverged:
                    if len(tried) >= rollbacks:
                        raise TrainingFailed(_explain(diverged, model, batches_from, checkpoint.progress)) from diverged
                    _roll_back(model, checkpoint, tried, diverged, report)
            checkpoint.save_and_wait(model)
        finally:
            checkpoint.wait()


def _fit(model, batches_from, checkpoint, last_epoch, callbacks, verbose):
    per_epoch = checkpoint.batches_per_epoch
    while checkpoint.progress.batches < last_epoch * per_epoch:
        epoch, step = divmod(checkpoint.progress.batches, per_epoch)
        model.fit(
            batches_from(checkpoint.progress),
            initial_epoch=epoch,
            # The rest of an interrupted epoch is a short epoch of its own. Complete epochs follow.
            epochs=epoch + 1 if step else last_epoch,
            steps_per_epoch=per_epoch - step,
            callbacks=callbacks,
            shuffle=False,  # the pipeline shuffles
            verbose=verbose,
        )


def _roll_back(model, checkpoint, tried, diverged, report):
    checkpoint.wait()
    bad = checkpoint.progress
    if not checkpoint.writes:
        path, progress = _wait_for_rollback(checkpoint, bad.order + 1)
        tried.append(progress.batches)
        checkpoint.start_at(progress, model, path)
        return
    untried = checkpoint.files.newest(lambda found: found.stage == bad.stage and found.batches not in tried, report)
    path, good = untried or checkpoint.files.newest(lambda found: found.stage == bad.stage)
    tried.append(good.batches)
    report(
        f"{diverged} at batch {bad.batches}. Rolling back to the checkpoint at batch {good.batches}, with another data "
        f"order (rollback {len(tried)})."
    )
    checkpoint.start_at(dataclasses.replace(good, order=bad.order + 1), model, path)
    checkpoint.save_and_wait(model)


def _wait_for_rollback(checkpoint, order, seconds=600):
    # The process that writes checkpoints chooses one and saves it with the new data order. The others wait for it.
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := checkpoint.files.newest(lambda progress: progress.order == order, report=lambda line: None):
            return found
        time.sleep(0.2)
    raise OSError(f"The first process wrote no checkpoint to {checkpoint.files.folder} within {seconds} s.")


def _explain(diverged, model, batches_from, progress):
    before = dataclasses.replace(progress, batches=progress.batches - 1)
    try:
        bad = first_bad_tensor(model, next(iter(batches_from(before))))
    except Exception as error:  # a failed diagnosis must not hide the divergence
        bad = f"The first non-finite tensor could not be determined: {error!r}."
    return f"{diverged}, at batch {progress.batches}, after rolling back. {bad}"
