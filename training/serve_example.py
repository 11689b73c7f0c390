"""Read an export with TensorFlow alone; neither Keras code nor `keras_siamim` is needed.

python -m training.serve_example saved_models/fit_example/1 image.png [image.jpg ...]
"""

import argparse
import sys

import numpy as np
import tensorflow as tf


def main(arguments=None):
    """Print the features of image files; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="one version of an export, a directory that holds saved_model.pb")
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
