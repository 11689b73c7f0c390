import logging

import pytest

from keras_siamim.cli.verdict import without_retracing_warnings

pytestmark = pytest.mark.one_backend


def test_only_warnings_about_retracing_are_silenced_and_only_inside(caplog):
    logger, retraced = logging.getLogger("tensorflow"), "6 out of the last 7 calls triggered tf.function retracing."
    logger.addHandler(caplog.handler)
    try:
        with without_retracing_warnings():
            logger.warning(retraced)
            logger.warning("another")
        logger.warning(retraced)
    finally:
        logger.removeHandler(caplog.handler)
    assert list(dict.fromkeys(caplog.messages)) == ["another", retraced]
