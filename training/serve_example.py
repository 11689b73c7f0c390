"""Run an exported model with TensorFlow alone, without Keras or `keras_siamim`.

python -m training.serve_example saved_models/fit_example/1 image.png [image.jpg ...]
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the features of image files.

    Args:
        arguments: List of strings. Defaults to the command line of the process.

    Returns:
        The exit status, 0.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="directory of one exported version, with saved_model.pb")
    parser.add_argument("images", nargs="+", help="JPEG or PNG files")
    options = parser.parse_args(arguments)
    signature = tf.saved_model.load(options.model).signatures["image_bytes"]
    outputs = signature(image_bytes=tf.constant([tf.io.read_file(path).numpy() for path in options.images]))
    for name, values in sorted(outputs.items()):
        for path, value in zip(options.images, values.numpy(), strict=True):
            print(f"{path}: {name} {value.shape}, first values {np.round(value.ravel()[:4], 4).tolist()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
