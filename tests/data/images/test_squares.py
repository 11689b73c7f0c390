import numpy as np
import pytest
import tensorflow as tf

from keras_siamim.data.dense_augmentation import shortest_edge_size
from keras_siamim.data.images import preprocessing, squares

pytestmark = pytest.mark.one_backend


def test_a_square_has_the_size_of_the_reference_and_no_normalized_padding():
    fit = tf.function(lambda image: squares.fit_square(image, 24), [tf.TensorSpec([None, None, 3], tf.uint8)])
    for height, width in [(9, 16), (16, 9), (16, 45), (100, 3), (7, 7), (1, 300), (24, 24), (37, 64)]:
        image, size = fit(tf.fill([height, width, 3], tf.constant(9, tf.uint8)))
        rows, columns = shortest_edge_size(height, width, 24, 24)
        assert size.numpy().tolist() == [rows, columns]
        expected = np.zeros((24, 24, 3), "float32")
        expected[:rows, :columns] = preprocessing.normalize(tf.constant([9, 9, 9], tf.uint8))
        np.testing.assert_array_equal(image, expected)
