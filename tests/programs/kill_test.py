"""Kill a run at random moments and compare it with one that was never interrupted.

    python -m tests.programs.kill_test FOLDER [--kills train,save,start,term,...] [--seed 0] [--images]

`train`: SIGKILL at a random moment of training. `save`: SIGKILL while a checkpoint is being written. `start`: SIGKILL
while the run starts. `term`: SIGTERM. Without `--kills`, ten of them. `--images` takes the batches from the real
pipeline instead of drawing them. Prints one line a kill; exit status 0 if log
and last checkpoint are equal bit for bit.
"""

import argparse
import multiprocessing
import os
import pathlib
import random
import signal
import sys
import time

import numpy as np

from keras_siamim.runs.checkpoint_files import STAGING, CheckpointFiles, read_arrays
from tests.programs import survivor

TEN = "train,save,train,start,save,train,save,train,term,save"
# Seconds of training, at most, before a kill.
LONGEST = 1.0


def main(arguments=None):
    """Run, kill, compare; the process's exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--kills", default=TEN)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", action="store_true")
    options = parser.parse_args(arguments)
    # The server imports everything once and forks a fresh process for each start.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.programs.survivor"])
    whole, killed = options.folder / "whole", options.folder / "killed"
    for folder in (whole, killed):
        folder.mkdir(parents=True)
    random.seed(options.seed)
    start = time.monotonic()
    finish(context, whole, options.images)
    print(f"uninterrupted: {time.monotonic() - start:.0f} s", flush=True)
    for number, kind in enumerate(options.kills.split(",")):
        kill(context, killed, kind, number + 1, options.images)
    finish(context, killed, options.images)
    return compare(whole, killed)


def launch(context, folder, images):
    """A process that goes on with the run, and the pipe on which it tells its batches, its starting place first."""
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=survivor.survive, args=(folder, sender, images))
    process.start()
    sender.close()
    return process, receiver


def finish(context, folder, images):
    """Let the run come to its end."""
    process, _ = launch(context, folder, images)
    process.join()
    if process.exitcode:
        raise SystemExit(f"the run in {folder} ended with status {process.exitcode}")


def kill(context, folder, kind, number, images):
    """Start the run, end it at a moment of the kind, and tell."""
    process, pipe = launch(context, folder, images)
    begun = "starting"
    if kind == "start":
        time.sleep(random.uniform(0, 1))
    else:
        place = pipe.recv()
        begun = f"from batch {place}"
        while pipe.recv() <= place:  # the first batch compiles the step
            pass
        time.sleep(random.uniform(0, LONGEST))
    if kind == "save":
        while process.is_alive() and not list((folder / "checkpoints").glob(f"{STAGING}*")):
            pass
    os.kill(process.pid, signal.SIGTERM if kind == "term" else signal.SIGKILL)
    process.join()
    done = "no batch"
    while True:
        try:
            done = f"batch {pipe.recv()}" if pipe.poll() else done
        except EOFError:
            break
    left = [path.name for path in (folder / "checkpoints").glob(f"{STAGING}*")]
    inside = f", inside the writing of {left[0].removeprefix(STAGING)}" if left else ""
    print(f"{number:3} {kind:5} {begun}, ended in {done}{inside}; exit status {process.exitcode}", flush=True)
    expected = os.EX_TEMPFAIL if kind == "term" else -signal.SIGKILL
    if process.exitcode != expected:
        raise SystemExit(f"exit status {process.exitcode} instead of {expected}")


def compare(whole, killed):
    """Print whether both folders hold the same run; the process's exit status."""
    logs = [(folder / "log.csv").read_text() for folder in (whole, killed)]
    states = [read_arrays(CheckpointFiles(folder / "checkpoints").newest()[0]) for folder in (whole, killed)]
    differing = [name for name, array in states[0].items() if not np.array_equal(array, states[1][name])]
    print(f"logs equal: {logs[0] == logs[1]}; arrays that differ: {len(differing)} of {len(states[0])}")
    if logs[0] != logs[1]:
        print(*logs, sep="\n")
    return int(logs[0] != logs[1] or bool(differing))


if __name__ == "__main__":
    sys.exit(main())
