"""The ledger of bad images: which could not be read and why, in a file, with a limit at which a run stops."""

import contextlib
import json
import logging
import threading
from pathlib import Path

import tensorflow as tf

from keras_siamim import files
from keras_siamim.data.error_handling import failure
from keras_siamim.data.images import decoding
from keras_siamim.files import printable

LIMIT = 0.01
EXAMPLES = 3
# Reasons of images that a user has seen to since they were listed.
REPAIRED, REMOVED = "repaired since", "removed since"
SEEN_TO = (REPAIRED, REMOVED)


class TooManyBadImages(ValueError):
    """More images of a source can't be read than the limit allows."""


class Ledger:
    """Bad images of one or several sources, each listed once however often it is met.

    The file is only ever appended to, one JSON object a line with `source`, `index` (the image's number), `image`
    (where it lies) and `reason`. Several processes may share it: each addition locks it and first takes in what the
    others have written. A run that starts again with the same file goes on counting.

    Args:
        path: of the file, made at the first bad image, or None to keep the list in memory.
        limit: share of a source's images that may be bad, 0...1 without 1.

    Example:
    >>> from keras_siamim.data.sources import array_source
    >>> ledger, source = Ledger(limit=0.5), array_source(np.zeros((4, 8, 8), "uint8"))
    >>> ledger.add(source, 2, "no image")
    >>> ledger.entries()
    [{'source': 'array', 'index': 2, 'image': 'image 2', 'reason': 'no image'}]
    """

    def __init__(self, path=None, limit=LIMIT):
        if not 0 <= limit < 1:
            raise ValueError(f"limit must be a share of the images, at least 0 and below 1; received {limit!r}.")
        self.path = None if path is None else Path(path)
        self.limit = limit
        self.stopped = None
        self._entries = {}
        self._taken = 0
        self._lock = threading.Lock()
        if self.path is not None and self.path.exists():
            with self._opened():
                pass

    def add(self, source, index, reason):
        """List a bad image of a source.

        Args:
            source: what `sources.open_source` gives.
            index: int, the image's number.
            reason: text.

        Raises:
            TooManyBadImages: the source has more of them now than the limit allows.
        """
        entry = {"source": source.name, "index": int(index), "image": source.locate(index), "reason": reason}
        with self._lock, self._opened() as append:
            if self.reason(source, index) is None:
                append(entry)
                logging.getLogger(__name__).warning("bad image: %s: %s", printable(entry["image"]), reason)
        self.check_limit(source)

    def reason(self, source, index):
        """Why that image of a source is bad, or None if it is not listed."""
        reason = self._entries.get((source.name, int(index)), {}).get("reason")
        return None if reason == REPAIRED else reason

    def failure(self, source, index, shape=None):
        """Return why an image is bad now, see `error_handling.failure`.

        `short_errors` shows an error of the machine in one line.
        """
        try:
            return failure(source, index, shape)
        except Exception as error:
            self.stopped = OSError(f"{printable(source.locate(index))} could not be read: {decoding.reason_of(error)}")
            raise

    def entries(self, source=None):
        """All entries, or those of one source, as a list of dicts in the order of sources' names and images."""
        found = [self._entries[key] for key in sorted(self._entries)]
        return [entry for entry in found if source is None or entry["source"] == source.name]

    def review(self, source):
        """Take repaired images off the list, and count removed ones no longer: a user has seen to both.

        Args:
            source: What `open_source` gives, with the numbering that the list was made with.
        """
        with self._lock, self._opened() as append:
            for entry in self.entries(source):
                path = Path(entry["image"])
                if not path.is_absolute() or entry["reason"] in SEEN_TO:
                    continue
                reason = failure(source, entry["index"]) if path.exists() else REMOVED
                if reason != entry["reason"]:
                    append({**entry, "reason": reason or REPAIRED})

    @contextlib.contextmanager
    def short_errors(self):
        """Around a loop over batches: turn TensorFlow's long error about too many bad images into the short one."""
        try:
            yield self
        except tf.errors.OpError as error:
            if self.stopped is None:
                raise
            raise self.stopped from error

    def check_limit(self, source):
        """Raise if more of a source's images are bad than the limit allows.

        Raises:
            TooManyBadImages: With the number of bad images and the first of them.
        """
        # A sample is judged by its own images, whatever is known of the others.
        bad = [e for e in self.entries(source) if e["reason"] not in SEEN_TO and source.holds(e["index"])]
        if len(bad) <= self.limit * source.size:
            return
        first = "; ".join(f"{printable(entry['image'])}: {entry['reason']}" for entry in bad[:EXAMPLES])
        self.stopped = TooManyBadImages(
            f"{len(bad):,} of the {source.size:,} images of {source.name} can't be read, more than the limit of "
            f"{self.limit:.3g} of them. {'All' if len(bad) <= EXAMPLES else 'The first'}: {first}. "
            f"{f'They are listed in {self.path}. ' if self.path else ''}Repair or remove them, or raise the limit."
        )
        raise self.stopped

    @contextlib.contextmanager
    def _opened(self):
        # Locked, and what others wrote taken in; yields a function that appends.
        if self.path is None:
            yield self._remember
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b") as file:
            files.lock(file)
            file.seek(self._taken)
            written = file.read()
            for line in written.splitlines():
                # Whoever was killed while writing leaves half a line.
                with contextlib.suppress(ValueError, KeyError):
                    self._remember(json.loads(line))
            if written and not written.endswith(b"\n"):
                file.write(b"\n")

            def append(entry):
                file.write(json.dumps(entry).encode() + b"\n")
                self._remember(entry)

            yield append
            file.flush()
            self._taken = file.tell()

    def _remember(self, entry):
        self._entries[entry["source"], entry["index"]] = entry
