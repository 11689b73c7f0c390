"""Run `keras-siamim pretrain` from a checkout."""

import sys

from keras_siamim.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
