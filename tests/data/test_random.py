import numpy as np
import pytest
import tensorflow as tf

from keras_siamim.data import random

pytestmark = pytest.mark.one_backend

INDEX = np.array([0, 1, 2**40, 2**62 + 5])


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (7, 3), (-1, 1600), (2**62, 1)])
def test_graph_ops_give_the_same_bits_as_numpy(seed, epoch):
    expected = random.stream_keys(seed, random.VIEWS, epoch, INDEX)
    found = random.tf_stream_keys(tf.constant(seed, tf.int64), random.VIEWS, tf.constant(epoch, tf.int64), INDEX)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(random.tf_uniforms(found, 100), random.uniforms(expected, 100))


def test_numbers_are_uniform_and_independent():
    numbers = random.uniforms(random.stream_keys(0, random.VIEWS, 0, np.arange(2000)), 500)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    shares = np.histogram(numbers, 20, (0, 1))[0] / numbers.size
    np.testing.assert_allclose(shares, 0.05, atol=0.001)
    for one, other in [(numbers[1:], numbers[:-1]), (numbers[:, 1:], numbers[:, :-1])]:
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.005


def test_seeds_epochs_and_streams_have_distinct_keys():
    keys = [
        random.stream_keys(seed, stream, epoch, np.arange(100))
        for seed in (0, 1, 2)
        for stream in (random.VIEWS, random.MASKS)
        for epoch in (0, 1, 2)
    ]
    assert len(np.unique(keys)) == np.size(keys)


def test_sampling_can_start_anywhere_in_a_stream():
    keys = random.stream_keys(0, random.MASKS, 0, [4])
    np.testing.assert_array_equal(random.uniforms(keys, 5, first=10), random.uniforms(keys, 15)[:, 10:])


def test_permutations_hold_everything_once_and_change_with_the_epoch():
    first, second = (random.permutation(3, random.ORDER, epoch, 1000) for epoch in (0, 1))
    np.testing.assert_array_equal(np.sort(first), np.arange(1000))
    assert (first == second).mean() < 0.02
