"""Run `keras-siamim evaluate` from a checkout."""

import sys

from keras_siamim.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
