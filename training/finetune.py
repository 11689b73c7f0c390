"""Run `keras-siamim finetune` from a checkout."""

import sys

from keras_siamim.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
