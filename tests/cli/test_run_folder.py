import pytest

from keras_siamim.cli import pretrain
from keras_siamim.cli.run_folder import describe_run
from keras_siamim.runs import description as descriptions

pytestmark = pytest.mark.one_backend


def options_of(*arguments):
    return pretrain.build_parser().parse_args(list(arguments))


def test_a_resumed_run_makes_its_views_where_it_made_them_before(tmp_path):
    described, _ = describe_run(options_of("--views-on-device"))
    descriptions.write(tmp_path, described)

    options = options_of("--run", str(tmp_path))
    describe_run(options)

    assert options.views_on_device


def test_a_run_does_not_change_where_it_makes_its_views(tmp_path):
    described, _ = describe_run(options_of())
    descriptions.write(tmp_path, described)
    with pytest.raises(ValueError, match="`--views-on-device` must be given to a new run"):
        describe_run(options_of("--run", str(tmp_path), "--views-on-device"))
