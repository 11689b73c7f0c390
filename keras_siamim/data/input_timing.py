"""How long a training loop waits for its data, measured inside `tf.data`, so on every backend alike."""

import tensorflow as tf


class WaitingClock:
    """Seconds that consumers of the datasets it timed have waited.

    Example:
    >>> clock = WaitingClock()
    >>> len(list(clock.timed(tf.data.Dataset.range(3)))), clock.batches, clock.seconds < 1
    (3, 3, True)
    """

    def __init__(self):
        self.seconds = 0.0
        self.batches = 0

    def timed(self, dataset):
        """Wrap the last stage of a pipeline, prefetching included: the same elements, with their waiting counted.

        Args:
            dataset: a `tf.data.Dataset`.

        Returns:
            A `tf.data.Dataset` of the same elements.
        """
        # A zip takes one element from each of its inputs in turn, in the thread of whoever asks: what lies between
        # its two clocks is the time the element took to come.
        clock = tf.data.Dataset.counter().map(lambda _: tf.timestamp())
        return tf.data.Dataset.zip(clock, dataset, clock).map(self._count)

    def _count(self, before, element, after):
        def add(seconds):
            self.seconds += float(seconds)
            self.batches += 1
            return True

        counted = tf.numpy_function(add, [after - before], tf.bool, stateful=True)
        with tf.control_dependencies([counted]):
            return tf.nest.map_structure(tf.identity, element)
