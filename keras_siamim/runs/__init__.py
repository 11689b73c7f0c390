"""Resumable runs: description, checkpoints, lock, log and training loop.

`ExactCheckpoint` resumes training at the exact batch where it stopped.
"""

from keras_siamim.runs.checkpoint_files import CheckpointFiles, Progress
from keras_siamim.runs.exact_checkpoint import ExactCheckpoint, Preempted

__all__ = ["CheckpointFiles", "ExactCheckpoint", "Preempted", "Progress"]
