"""`pretrain --init-from`: a new run records its source, a started one does not change it."""

from types import SimpleNamespace

import numpy as np
import pytest
from keras import ops

from keras_siamim.cli.pretrain import initialize
from keras_siamim.cli.run_folder import initial_weights_of
from keras_siamim.recipes import build_model, load_recipe, recipe_to_json

pytestmark = pytest.mark.one_backend("torch")

TOY = {"encoder.depth": 1, "encoder.width": 24, "model.decoder_width": 16, "model.decoder_heads": 2}


@pytest.fixture
def begun(tmp_path):
    """A new run that starts from a saved model: its description, and that model."""
    recipe = load_recipe("digits_tiny", **TOY)
    source = build_model(recipe, total_steps=1)
    source.encoder.class_token.token.assign(source.encoder.class_token.token + 1)
    source.save(tmp_path / "source.keras")
    run = {"recipe": recipe_to_json(recipe), "starts": []}
    weights = initial_weights_of(SimpleNamespace(init_from=str(tmp_path / "source.keras"), run=None), run)
    assert weights is not None
    return run, source, recipe


def token_of(model):
    return ops.convert_to_numpy(model.encoder.class_token.token)


def test_a_run_without_a_checkpoint_reads_the_recorded_source_again(begun, capsys):
    run, source, recipe = begun
    model = build_model(recipe, total_steps=1)
    initialize(model, run, None, prints=True)
    np.testing.assert_array_equal(token_of(model), token_of(source))
    assert "encoder: taken from" in capsys.readouterr().out


def test_a_source_that_has_changed_is_refused(begun):
    run, source, recipe = begun
    source.encoder.class_token.token.assign(source.encoder.class_token.token + 1)
    source.save(run["initial_weights"]["source"])
    with pytest.raises(ValueError, match=f"with which the run began, SHA-256 {run['initial_weights']['sha256']}"):
        initialize(build_model(recipe, total_steps=1), run, None, prints=False)


def test_a_started_run_keeps_its_source(begun):
    run, *_ = begun
    run["starts"] = [{}]
    same = SimpleNamespace(init_from=run["initial_weights"]["source"], run="runs/mine")
    assert initial_weights_of(same, run) is None
    with pytest.raises(ValueError, match="must be that of a run's first start, .*source.keras for runs/mine"):
        initial_weights_of(SimpleNamespace(init_from="other", run="runs/mine"), run)
    with pytest.raises(ValueError, match="first start, none for runs/mine. Received: other"):
        initial_weights_of(SimpleNamespace(init_from="other", run="runs/mine"), {**run, "initial_weights": {}})
