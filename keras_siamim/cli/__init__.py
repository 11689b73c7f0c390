"""Command-line programs, one module per command of `keras-siamim`."""
