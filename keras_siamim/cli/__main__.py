"""`python -m keras_siamim.cli` is `keras-siamim`."""

import sys

from keras_siamim.cli.main import main

sys.exit(main())
