"""Ledger of bad images: a file that lists unreadable images with reasons, and a limit that stops a run."""

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_siamim import files
from keras_siamim.data.error_handling import failure
from keras_siamim.data.images import decoding
from keras_siamim.data.sources import Source
from keras_siamim.files import printable
from keras_siamim.types import PathLike

# File of bad images in a run folder.
BAD_IMAGES = "bad_images.jsonl"
LIMIT = 0.01
EXAMPLES = 3
# Reasons of listed images that a user has repaired or removed since.
REPAIRED, REMOVED = "repaired since", "removed since"
RESOLVED = (REPAIRED, REMOVED)


class TooManyBadImages(ValueError):
    """Error raised when a source has more bad images than the limit allows."""


class Ledger:
    """List of the bad images of one or several sources; each image is listed once.

    The file is append-only, with one JSON object per line: `source`, `index`, `image` (its location) and `reason`.
    Several processes may share the file. Each addition locks it and first reads the entries of the other processes. A
    new ledger with the same file continues the count.

    Args:
        path: Path of the file, or None to keep the list in memory. The first bad image creates the file. Defaults to
            None.
        limit: Float in [0, 1). Fraction of a source's images that may be bad. Defaults to 0.01.

    Raises:
        ValueError: If `limit` is outside [0, 1).

    Example:
    >>> from keras_siamim.data.sources import array_source
    >>> ledger, source = Ledger(limit=0.5), array_source(np.zeros((4, 8, 8), "uint8"))
    >>> ledger.add(source, 2, "not an image")
    >>> ledger.entries()
    [{'source': 'array', 'index': 2, 'image': 'image 2', 'reason': 'not an image'}]
    """

    def __init__(self, path: PathLike | None = None, limit: float = LIMIT) -> None:
        if not 0 <= limit < 1:
            raise ValueError(f"`limit` must be in [0, 1). Received: {limit!r}.")
        self.path = None if path is None else Path(path)
        self.limit = limit
        self._error: Exception | None = None
        self._entries: dict[tuple[str, int], dict[str, Any]] = {}
        self._bytes_read = 0
        self._lock = threading.Lock()
        if self.path is not None and self.path.exists():
            with self._locked_file():
                pass

    def with_limit(self, limit: float) -> "Ledger":
        """Return a ledger of the same list with another limit. Images that one of them lists are known to both.

        Args:
            limit: Float in [0, 1). Fraction of a source's images that may be bad.

        Raises:
            ValueError: If `limit` is outside [0, 1).
        """
        other = Ledger(self.path, limit)
        other._entries, other._lock = self._entries, self._lock
        return other

    def keep_in(self, path: PathLike) -> None:
        """Write the entries to a file, and list further bad images there.

        Args:
            path: Path of the file, whose own entries stay.
        """
        if self.path == Path(path):
            return
        found, kept = self.entries(), Ledger(path, self.limit)
        with kept._locked_file() if found else contextlib.nullcontext(kept._remember) as append:
            for entry in found:
                if (entry["source"], entry["index"]) not in kept._entries:
                    append(entry)
        self.path, self._entries, self._bytes_read = kept.path, kept._entries, kept._bytes_read

    def add(self, source: Source, index: int, reason: str) -> None:
        """List a bad image of a source.

        Args:
            source: Source of the image, from `sources.open_source`.
            index: Integer. Index of the image in the source.
            reason: String.

        Raises:
            TooManyBadImages: If the source now has more bad images than the limit allows.
        """
        entry = {"source": source.name, "index": int(index), "image": (image := source.locate(index)), "reason": reason}
        with self._lock, self._locked_file() as append:
            if self.reason(source, index) is None:
                append(entry)
                logging.getLogger(__name__).warning("bad image: %s: %s", printable(image), reason)
        self.check_limit(source)

    def reason(self, source: Source, index: int) -> str | None:
        """Return the reason for which an image of a source is listed, or None if it is not listed."""
        reason = self._entries.get((source.name, int(index)), {}).get("reason")
        return None if reason == REPAIRED else reason

    def failure(self, source: Source, index: int, shape: tuple[int, int] | None = None) -> str | None:
        """Read an image and return the reason if it is bad, as `error_handling.failure` does.

        `short_errors` reports an error of the machine in one line.
        """
        try:
            return failure(source, index, shape)
        except Exception as error:
            self._error = OSError(f"{printable(source.locate(index))} could not be read: {decoding.reason_of(error)}")
            raise

    def entries(self, source: Source | None = None) -> list[dict[str, Any]]:
        """Return all entries, or those of one source, sorted by the source's name and the image's index."""
        found = [self._entries[key] for key in sorted(self._entries)]
        return [entry for entry in found if source is None or entry["source"] == source.name]

    def review(self, source: Source) -> None:
        """Read the listed images again, delist the repaired ones and stop counting the removed ones.

        Args:
            source: Source with the indices that the list was made with.
        """
        with self._lock, self._locked_file() as append:
            for entry in self.entries(source):
                path = Path(entry["image"])
                if not path.is_absolute() or entry["reason"] in RESOLVED:
                    continue
                reason = failure(source, entry["index"]) if path.exists() else REMOVED
                if reason != entry["reason"]:
                    append({**entry, "reason": reason or REPAIRED})

    @contextlib.contextmanager
    def short_errors(self) -> Iterator["Ledger"]:
        """Context of a loop over batches that replaces TensorFlow's long errors with the ledger's short ones."""
        try:
            yield self
        except tf.errors.OpError as error:
            if self._error is None:
                raise
            raise self._error from error

    def check_limit(self, source: Source) -> None:
        """Raise an error if more of a source's images are bad than the limit allows.

        Raises:
            TooManyBadImages: If so; the message has the number of bad images and the first of them.
        """
        # A sample counts its own images only, even if the file lists others of the same source.
        bad = [e for e in self.entries(source) if e["reason"] not in RESOLVED and source.holds(e["index"])]
        if len(bad) <= self.limit * source.size:
            return
        first = "; ".join(f"{printable(entry['image'])}: {entry['reason']}" for entry in bad[:EXAMPLES])
        self._error = TooManyBadImages(
            f"{len(bad):,} of the {source.size:,} images of {source.name} can't be read, more than the limit of "
            f"{self.limit:.3g} of them. {'All' if len(bad) <= EXAMPLES else 'The first'}: {first}. "
            f"{f'They are listed in {self.path}. ' if self.path else ''}Repair or remove them, or raise the limit."
        )
        raise self._error

    @contextlib.contextmanager
    def _locked_file(self) -> Iterator[Callable[[dict[str, Any]], None]]:
        # Locks the file, reads what other processes added, and yields a function that appends.
        if self.path is None:
            yield self._remember
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b") as file:
            files.lock(file)
            file.seek(self._bytes_read)
            written = file.read()
            for line in written.splitlines():
                # A process that was killed while writing leaves an incomplete line.
                with contextlib.suppress(ValueError, KeyError):
                    self._remember(json.loads(line))
            if written and not written.endswith(b"\n"):
                file.write(b"\n")

            def append(entry: dict[str, Any]) -> None:
                file.write(json.dumps(entry).encode() + b"\n")
                self._remember(entry)

            yield append
            file.flush()
            self._bytes_read = file.tell()

    def _remember(self, entry: dict[str, Any]) -> None:
        self._entries[entry["source"], entry["index"]] = entry
