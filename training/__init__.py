"""Scripts of the checkout; the programs themselves are in `keras_siamim.cli`."""
