"""Scripts for a source checkout: the commands of `keras_siamim.cli`, and two examples."""
