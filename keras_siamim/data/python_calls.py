"""Python functions inside `tf.data` graphs, and variables that such graphs share with Python.

Only the uncommon cases call Python: odd image formats, unreadable images, the permutation of an epoch. TensorFlow's
threads must not do so while the interpreter shuts down: they would wait for its lock without end, and the program would
hang, for example after an error in the middle of `fit`. All calls are therefore closed at exit.
"""

from __future__ import annotations

import atexit
import functools
import threading
import time
import uuid
from collections.abc import Callable

import tensorflow as tf

from keras_siamim.types import Tensor

# Longest wait at exit for calls that still run.
CLOSING_SECONDS = 5.0


class GraphVariable:
    """Scalar that Python and `tf.data` graphs share, independent of any distribution strategy.

    Args:
        value: Initial value.
        dtype: TensorFlow dtype.

    Example:
        >>> seconds = GraphVariable(0.0, tf.float64)
        >>> seconds.add(1.5)
        >>> float(seconds.read())
        1.5
    """

    def __init__(self, value: float, dtype: tf.DType):
        self.dtype = dtype
        with tf.init_scope(), tf.device("CPU:0"):
            self.handle = tf.raw_ops.VarHandleOp(dtype=dtype, shape=[], shared_name=f"keras_siamim_{uuid.uuid4().hex}")
        self.assign(value)

    def assign(self, value: float) -> None:
        """Set the value, at once even where a graph is being traced."""
        with tf.init_scope(), tf.device("CPU:0"):
            tf.raw_ops.AssignVariableOp(resource=self.handle, value=tf.constant(value, self.dtype))

    def add(self, value: float | Tensor) -> tf.Operation | None:
        """Add to the value, and return the operation inside a graph."""
        value = tf.cast(value, self.dtype)
        return tf.raw_ops.AssignAddVariableOp(resource=self.handle, value=value)

    def read(self) -> Tensor:
        """Return the value."""
        return tf.raw_ops.ReadVariableOp(resource=self.handle, dtype=self.dtype)


class _Calls:
    # The calls of this process that are open; closed once, at exit.
    def __init__(self):
        self.open = GraphVariable(True, tf.bool)
        self.running = 0
        self.lock = threading.Lock()
        atexit.register(self.close)

    def run(self, function, *inputs):
        with self.lock:
            self.running += 1
        try:
            return function(*inputs)
        finally:
            with self.lock:
                self.running -= 1

    def close(self):
        self.open.assign(False)
        # A thread that has read the variable before is in Python, or will be at once.
        time.sleep(0.05)
        # Not without end: a call never returns if Python collects, on its own thread, the iterator that waits for it.
        deadline = time.monotonic() + CLOSING_SECONDS
        while self.running and time.monotonic() < deadline:
            time.sleep(0.01)


@functools.cache
def _calls():
    return _Calls()


def numpy_function(function: Callable, inputs: list[Tensor], dtype: tf.DType, stateful: bool = True) -> Tensor:
    """Call Python as `tf.numpy_function` does, and fail instead once the interpreter shuts down.

    Args:
        function: Function from NumPy arrays to one array.
        inputs: Tensors.
        dtype: dtype of the result.
        stateful: bool. Whether equal inputs may give different results. Defaults to True.

    Returns:
        Tensor of unknown shape.
    """
    calls = _calls()
    run = functools.partial(calls.run, function)

    def closed():
        with tf.control_dependencies([tf.debugging.Assert(False, ["the interpreter shuts down"])]):
            return tf.zeros([], dtype)

    return tf.cond(calls.open.read(), lambda: tf.numpy_function(run, inputs, dtype, stateful=stateful), closed)
