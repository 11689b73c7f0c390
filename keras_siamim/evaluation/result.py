"""What every protocol hands back: its numbers and everything needed to read or repeat them."""

import dataclasses
import json
import time
from collections.abc import Mapping
from contextlib import contextmanager


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """The outcome of one protocol on one representation.

    Attributes:
        protocol: name of the protocol, such as `"knn"`.
        numbers: name of each figure and its value; accuracies and errors are fractions in 0...1.
        settings: the arguments that shaped the numbers, JSON types only.
        data: what it was measured on, such as the counts of images and classes, JSON types only.
        seed: the seed of everything random in it, or `None` where nothing is.
        seconds: wall time of the protocol, features already extracted.
        notes: sentences that a reader of the numbers must know, such as a reduced `k`.
    """

    protocol: str
    numbers: Mapping[str, float]
    settings: Mapping[str, object]
    data: Mapping[str, object]
    seed: int | None
    seconds: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """Return the result as a dictionary of JSON types."""
        return json.loads(json.dumps(dataclasses.asdict(self), default=list))


@contextmanager
def stopwatch():
    """Time the body of a `with`: yields a function that tells the seconds since it began."""
    start = time.perf_counter()
    yield lambda: time.perf_counter() - start
