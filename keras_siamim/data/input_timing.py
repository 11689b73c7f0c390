"""Time that a training loop waits for its data, measured inside `tf.data` and so on every backend alike."""

from __future__ import annotations

import tensorflow as tf

from keras_siamim.data.python_calls import GraphVariable


class InputTimer:
    """Seconds that the consumers of timed datasets have waited.

    Example:
        >>> timer = InputTimer()
        >>> len(list(timer.timed(tf.data.Dataset.range(3)))), timer.batches, timer.seconds < 1
        (3, 3, True)
    """

    def __init__(self):
        self._seconds = GraphVariable(0.0, tf.float64)
        self._batches = GraphVariable(0, tf.int64)

    @property
    def seconds(self) -> float:
        """Seconds waited so far."""
        return float(self._seconds.read())

    @property
    def batches(self) -> int:
        """Batches that came so far."""
        return int(self._batches.read())

    def timed(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Return a dataset of the same elements that counts the time its consumer waits.

        Args:
            dataset: Last stage of a pipeline, prefetching included.
        """
        # A zip takes one element from each input in turn, in the consumer's thread: the time between both clocks is
        # the time the element took.
        clock = tf.data.Dataset.counter().map(lambda _: tf.timestamp())
        return tf.data.Dataset.zip(clock, dataset, clock).map(self._count)

    def _count(self, before, element, after):
        with tf.control_dependencies([self._seconds.add(after - before), self._batches.add(1)]):
            return tf.nest.map_structure(tf.identity, element)
