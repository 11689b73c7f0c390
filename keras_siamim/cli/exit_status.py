"""Exit status of the commands that train a resumable run."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from keras_siamim.runs.exact_checkpoint import Preempted
from keras_siamim.runs.training import TrainingFailed

# Exit status after Ctrl-C, as in shells.
INTERRUPTED = 130


def exit_status(command: str, folder: Path, work: Callable[[], None]) -> int:
    """Do the work of a run; if it ends early, print why and how to resume it.

    Args:
        command: String. Name of the command.
        folder: Path of the run folder.
        work: Function that trains the run.

    Returns:
        0 if the work returns, 75 after SIGTERM, 130 after Ctrl-C, 1 if the work fails.

    Example:
        >>> exit_status("segment", Path("runs/segment/1"), lambda: None)
        0
    """
    resume_with = f"resume with: keras-siamim {command} --run {folder}"
    try:
        work()
    except Preempted as preempted:
        print(f"{preempted}; {resume_with}", flush=True)
        return INTERRUPTED if preempted.signal == signal.SIGINT else os.EX_TEMPFAIL
    except KeyboardInterrupt:
        print(f"interrupted; {resume_with}", flush=True)
        return INTERRUPTED
    except (ValueError, OSError, RuntimeError, TrainingFailed) as error:
        print(f"{folder}: {error}", file=sys.stderr)
        return 1
    return 0
