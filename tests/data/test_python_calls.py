import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from keras_siamim.data import python_calls
from keras_siamim.data.python_calls import GraphVariable, numpy_function

pytestmark = pytest.mark.one_backend


def doubled(number):
    return numpy_function(lambda value: np.int64(2 * value), [number], tf.int64)


@pytest.fixture
def calls(monkeypatch):
    fresh = python_calls._Calls()
    monkeypatch.setattr(python_calls, "_calls", lambda: fresh)
    return fresh


def test_a_variable_may_be_created_inside_a_graph():
    def add(number):
        return number + GraphVariable(2, tf.int64).read()

    assert list(tf.data.Dataset.range(3).map(add).as_numpy_iterator()) == [2, 3, 4]


def test_python_and_a_graph_share_a_variable():
    total = GraphVariable(1, tf.int64)

    def count(number):
        with tf.control_dependencies([total.add(number)]):
            return tf.identity(number)

    list(tf.data.Dataset.range(4).map(count))
    assert int(total.read()) == 7
    total.assign(0)
    assert int(total.read()) == 0


def test_a_closed_call_is_an_error_in_the_graph(calls):
    numbers = tf.data.Dataset.range(3).map(doubled)
    assert list(numbers.as_numpy_iterator()) == [0, 2, 4]
    calls.close()
    with pytest.raises(tf.errors.InvalidArgumentError, match="shuts down"):
        next(iter(numbers))
    assert list(numbers.ignore_errors()) == []


def test_closing_waits_for_calls_that_run(calls):
    begun, ended = threading.Event(), []

    def slow():
        begun.set()
        time.sleep(0.2)
        ended.append(True)

    thread = threading.Thread(target=calls.run, args=[slow])
    thread.start()
    begun.wait()
    calls.close()
    assert ended
    thread.join()


def test_closing_does_not_wait_for_a_call_that_never_returns(calls, monkeypatch):
    monkeypatch.setattr(python_calls, "CLOSING_SECONDS", 0.1)
    calls.running = 1
    calls.close()
