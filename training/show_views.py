"""Run `keras-siamim show-views` from a checkout."""

import sys

from keras_siamim.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["show-views", *sys.argv[1:]]))
