"""Result of a protocol: its metrics and everything needed to interpret and repeat them."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """Result of one protocol on one representation.

    Attributes:
        protocol: String. Name of the protocol, such as `"knn"`.
        numbers: Mapping from the name of each metric to its value. Accuracies and errors are fractions in [0, 1].
        settings: Mapping of JSON types. Arguments that influence the metrics.
        data: Mapping of JSON types. Description of the data, such as the numbers of images and classes.
        seed: Integer. Seed of all randomness, or `None` if there is none.
        seconds: Float. Wall time of the protocol, without feature extraction.
        notes: Tuple of strings. Remarks that qualify the metrics, such as a reduced `k`.

    Example:
        >>> EvaluationResult("knn", {"top1_k20": 0.5}, {}, {}, seed=None, seconds=0.1).to_dict()["numbers"]
        {'top1_k20': 0.5}
    """

    protocol: str
    numbers: Mapping[str, float]
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    seed: int | None
    seconds: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a dictionary of JSON types."""
        return json.loads(json.dumps(dataclasses.asdict(self), default=list))


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Time the body of a `with` statement.

    Yields:
        Function that returns the seconds since the body began.

    Example:
        >>> with stopwatch() as seconds:
        ...     result = sum(range(10))
        >>> seconds() < 60
        True
    """
    start = time.perf_counter()
    yield lambda: time.perf_counter() - start
