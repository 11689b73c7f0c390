"""Kill a run at random moments and compare it with an uninterrupted run.

    python -m tests.programs.kill_test FOLDER [--kills train,save,start,term,...] [--seed 0] [--images]

`train`: SIGKILL at a random moment of training. `save`: SIGKILL while a checkpoint is being written. `start`: SIGKILL
while the run starts. `term`: SIGTERM. The default of `--kills` is ten of them. `--images` trains on batches of the real
pipeline instead of random arrays. Prints one line per kill. The exit status is 0 if the logs and the last checkpoints
are equal bit for bit.
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
from tests.programs import resumable_run

TEN = "train,save,train,start,save,train,save,train,term,save"
# Maximum number of seconds of training before a kill.
LONGEST = 1.0


def main(arguments=None):
    """Run both runs and compare them; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--kills", default=TEN)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", action="store_true")
    options = parser.parse_args(arguments)
    # The server imports everything once and forks a fresh process for each start.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.programs.resumable_run"])
    uninterrupted, killed = options.folder / "uninterrupted", options.folder / "killed"
    for folder in (uninterrupted, killed):
        folder.mkdir(parents=True)
    random.seed(options.seed)
    start = time.monotonic()
    finish(context, uninterrupted, options.images)
    print(f"uninterrupted: {time.monotonic() - start:.0f} s", flush=True)
    for number, kind in enumerate(options.kills.split(",")):
        kill(context, killed, kind, number + 1, options.images)
    finish(context, killed, options.images)
    return compare(uninterrupted, killed)


def launch(context, folder, images):
    """Start a process that resumes the run; return it and a pipe with its first and all later batch numbers."""
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=resumable_run.train_to_end, args=(folder, sender, images))
    process.start()
    sender.close()
    return process, receiver


def finish(context, folder, images):
    """Train the run to its end."""
    process, _ = launch(context, folder, images)
    process.join()
    if process.exitcode:
        raise SystemExit(f"the run in {folder} ended with status {process.exitcode}")


def kill(context, folder, kind, number, images):
    """Start the run, kill it at a moment of the given kind, and print one line."""
    process, pipe = launch(context, folder, images)
    begun = "starting"
    if kind == "start":
        time.sleep(random.uniform(0, 1))
    else:
        first = pipe.recv()
        begun = f"from batch {first}"
        while pipe.recv() <= first:  # the first batch compiles the step
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


def compare(uninterrupted, killed):
    """Compare the runs in both folders and print the result; return the exit status."""
    logs = [(folder / "log.csv").read_text() for folder in (uninterrupted, killed)]
    states = [read_arrays(CheckpointFiles(folder / "checkpoints").newest()[0]) for folder in (uninterrupted, killed)]
    differing = [name for name, array in states[0].items() if not np.array_equal(array, states[1][name])]
    print(f"logs equal: {logs[0] == logs[1]}; arrays that differ: {len(differing)} of {len(states[0])}")
    if logs[0] != logs[1]:
        print(*logs, sep="\n")
    return int(logs[0] != logs[1] or bool(differing))


if __name__ == "__main__":
    sys.exit(main())
