import numpy as np
from keras import ops

from keras_siamim import AdamW
from keras_siamim.losses import info_nce
from tests.nano import nano_batch, nano_moco


def test_the_loss_asks_each_view_for_the_other():
    model, batch = nano_moco(), nano_batch()
    outputs = model(batch, training=True)
    forth = info_nce(outputs["query_1"], outputs["key_2"], 0.2)
    back = info_nce(outputs["query_2"], outputs["key_1"], 0.2)
    loss = model.loss_terms(outputs)["loss"]
    np.testing.assert_allclose(ops.convert_to_numpy(loss), ops.convert_to_numpy(forth + back), rtol=1e-6)


def test_views_are_interchangeable():
    model, batch = nano_moco(), nano_batch()
    swapped = {**batch, "view_1": batch["view_2"], "view_2": batch["view_1"]}
    losses = [ops.convert_to_numpy(model.loss_terms(model(b, training=True))["loss"]) for b in (batch, swapped)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_keys_use_the_statistics_of_the_batch_although_frozen():
    """BatchNorm of the target sees the batch: keys have zero mean and unit variance over it."""
    model = nano_moco()
    keys = ops.convert_to_numpy(model(nano_batch(32), training=True)["key_1"])
    np.testing.assert_allclose(keys.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(keys.std(axis=0), 1.0, atol=1e-2)
    assert not any(v.trainable for v in model.target.variables)


def test_dense_layers_have_no_bias_and_the_last_norm_no_affine_part():
    model = nano_moco()
    for head in (model.online.projector, model.predictor):
        assert all(dense.bias is None for dense in head.dense)
        assert [norm.affine for norm in head.norms] == [True] * (len(head.norms) - 1) + [False]


def test_geometry_and_masks_are_not_needed():
    model = nano_moco()
    model.compile(AdamW(1e-3))
    batch = {key: nano_batch()[key] for key in ("view_1", "view_2")}
    assert np.isfinite(model.fit(batch, batch_size=4, verbose=0).history["loss"]).all()
