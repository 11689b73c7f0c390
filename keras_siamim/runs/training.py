"""Training from where a run stands to its end, through preemptions and diverged numbers."""

import dataclasses
import time

from keras_siamim.callbacks.divergence import Diverged, StopWhenDiverged
from keras_siamim.runs.checkpoint_files import Progress
from keras_siamim.runs.exact_checkpoint import EndOnSignal
from keras_siamim.runs.first_bad_tensor import first_bad_tensor
from keras_siamim.runs.training_state import MODEL


class TrainingFailed(Exception):
    """The numbers of a run go wrong again and again; the message names the first tensor that does."""


def resume(model, stage, checkpoint, report=print):
    """Set a new model to where its run stands: the newest whole checkpoint, or the beginning.

    Args:
        model: Compiled for `stage`, with its initial weights.
        stage: The `Stage` that the run is in.
        checkpoint: `ExactCheckpoint` of the run.
        report: Called with one line a message.

    Returns:
        The `Progress`.

    Raises:
        ValueError: If there are checkpoints and none is whole, if there is none for a run that is past its first
            schedule, or if it is of another model.
        OSError: If checkpoints can't be written.
    """
    if not model.optimizer.built:  # by all processes, as some strategies build together
        model.optimizer.build(model.trainable_variables)
    # Those that an earlier start found damaged count too: a run must not begin anew where it once stood further.
    had_checkpoints = bool(checkpoint.files.paths() or checkpoint.files.quarantined())
    if checkpoint.writes:
        checkpoint.files.clean(report)
    path, place = checkpoint.files.newest(report=report) or (None, Progress())
    if path is None and had_checkpoints:
        raise ValueError(
            f"{checkpoint.files.folder} must hold an intact checkpoint. Received: damaged ones only. Restore one, or "
            "remove the folder to begin anew."
        )
    if path is None and stage.number:
        raise ValueError(f"{checkpoint.files.folder} must hold a whole checkpoint to continue a run. It holds none.")
    if place.stage == stage.number:
        checkpoint.start_at(place, model, path)
    else:
        checkpoint.start_at(place.reshuffled(stage=stage.number), model, path, groups=(MODEL,))
        model.restart_schedule()
    if path is None or place.stage != stage.number:
        checkpoint.save_surely(model)  # so that there is a good one, whatever comes
    return checkpoint.place


def train(model, batches_from, checkpoint, last_epoch, callbacks=(), patience=10, rollbacks=2, report=print, verbose=2):
    """Train until `last_epoch` epochs of the run are done, and save.

    When `patience` steps in a row had to be skipped for numbers that are not finite, the last good checkpoint is taken
    up again with another data order: the newest one at first, an older one if that got no further. After `rollbacks` of
    these the run stops.

    Args:
        model: Taken up with `resume`.
        batches_from: Function from a `Progress` to an endless dataset of training batches that begins there.
        checkpoint: The `ExactCheckpoint` of `resume`.
        last_epoch: Epochs of the whole run.
        callbacks: More callbacks; they see an interrupted epoch as a shorter one with the whole epoch's logs.
        patience: Skipped steps in a row.
        rollbacks: How often to go back, 0 or more.
        report: Called with one line a message.
        verbose: As for `keras.Model.fit`.

    Raises:
        TrainingFailed: If the numbers still go wrong after the last rollback.
        Preempted: On SIGTERM, after saving.
        OSError: If checkpoints can't be written.
    """
    callbacks = [*callbacks, StopWhenDiverged(patience), checkpoint]
    tried = []
    with EndOnSignal(checkpoint):
        try:
            while True:
                try:
                    _fit(model, batches_from, checkpoint, last_epoch, callbacks, verbose)
                    break
                except Diverged as diverged:
                    if len(tried) >= rollbacks:
                        raise TrainingFailed(_explain(diverged, model, batches_from, checkpoint.place)) from diverged
                    _roll_back(model, checkpoint, tried, diverged, report)
            checkpoint.save_surely(model)
        finally:
            checkpoint.wait()


def _fit(model, batches_from, checkpoint, last_epoch, callbacks, verbose):
    per_epoch = checkpoint.batches_per_epoch
    while checkpoint.place.batches < last_epoch * per_epoch:
        epoch, step = divmod(checkpoint.place.batches, per_epoch)
        model.fit(
            batches_from(checkpoint.place),
            initial_epoch=epoch,
            # What is left of an interrupted epoch is an epoch of fewer steps; the whole ones follow.
            epochs=epoch + 1 if step else last_epoch,
            steps_per_epoch=per_epoch - step,
            callbacks=callbacks,
            shuffle=False,  # the pipeline has its own order
            verbose=verbose,
        )


def _roll_back(model, checkpoint, tried, diverged, report):
    checkpoint.wait()
    bad = checkpoint.place
    if not checkpoint.writes:
        path, place = _follow(checkpoint, bad.order + 1)
        tried.append(place.batches)
        checkpoint.start_at(place, model, path)
        return
    untried = checkpoint.files.newest(lambda place: place.stage == bad.stage and place.batches not in tried, report)
    path, good = untried or checkpoint.files.newest(lambda place: place.stage == bad.stage)
    tried.append(good.batches)
    report(
        f"{diverged} at batch {bad.batches}. Back to the checkpoint at batch {good.batches}, with another data order "
        f"({len(tried)})."
    )
    checkpoint.start_at(dataclasses.replace(good, order=bad.order + 1), model, path)
    checkpoint.save_surely(model)


def _follow(checkpoint, order, seconds=600):
    # The process that writes decides where all go back to; what it saved there is waited for.
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := checkpoint.files.newest(lambda place: place.order == order, report=lambda line: None):
            return found
        time.sleep(0.2)
    raise OSError(f"No checkpoint of the first process came within {seconds} s in {checkpoint.files.folder}.")


def _explain(diverged, model, batches_from, place):
    before = dataclasses.replace(place, batches=place.batches - 1)
    try:
        bad = first_bad_tensor(model, next(iter(batches_from(before))))
    except Exception as error:  # naming it is a service that must not hide what happened
        bad = f"Which tensor was the first could not be found out: {error!r}."
    return f"{diverged}, at batch {place.batches}, after rolling back. {bad}"
