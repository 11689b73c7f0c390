"""The end of a program whose pipelines are still at work, as an error in the middle of `fit` leaves them.

Masks and odd image formats are Python functions that TensorFlow's threads call. Once Python begins to take itself
apart, such a thread never comes back from its call, and an iterator that is taken down only then waits for it without
end: the program prints its error and hangs. So all iterators are taken down before.
"""

import gc

import tensorflow as tf

ITERATORS = (tf.data.Iterator, tf.distribute.DistributedIterator)


def release_iterators():
    """Take down every iterator over a `tf.data` pipeline in this process; none can be used afterwards."""
    for found in gc.get_objects():
        # The type, not `isinstance`, which would wake lazily loaded modules.
        if issubclass(type(found), ITERATORS):
            vars(found).clear()
