from keras_siamim._backend import free_accelerator_memory, has_accelerator
from keras_siamim.runs.machine import free_memory, matrix_product_rate


def test_the_rate_of_matrix_products_and_the_free_memory_are_measured():
    assert 1e8 < matrix_product_rate(0.01) < 1e16
    assert (free_memory() or 2**30) > 2**20  # None where the system does not tell
    assert has_accelerator() or free_accelerator_memory() is None
