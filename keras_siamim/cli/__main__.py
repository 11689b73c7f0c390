"""Entry point of `python -m keras_siamim.cli`, the same as `keras-siamim`."""

import sys

from keras_siamim.cli.main import main

sys.exit(main())
