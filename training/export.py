"""Run `keras-siamim export` from a checkout."""

import sys

from keras_siamim.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
