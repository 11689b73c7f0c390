"""Bad batches get an error that names what and what is allowed, before the first step."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim.objectives.validation import READ_AT_MOST, last_batch_size
from tests.nano import compiled_nano_model, nano_batch, nano_mae, nano_moco, nano_model


def without(key):
    batch = nano_batch()
    del batch[key]
    return batch


def with_value(key, change):
    batch = nano_batch()
    batch[key] = change(batch[key])
    return batch


def poisoned(images):
    images = images.copy()
    images[3, 0, 0, 0] = np.nan
    return images


BAD = {
    "no geometry": (without("relative_affine"), "lacks relative_affine"),
    "no masks": (without("visible_ids"), "lacks visible_ids"),
    "not a dictionary": (np.zeros((4, 16, 24, 3), "float32"), "must be a dictionary with the keys view_1"),
    "bytes for floats": (with_value("view_1", lambda x: x.astype("uint8")), "`view_1`.*float.*uint8"),
    "NaN": (with_value("view_2", poisoned), "`view_2` must be finite.*index 3"),
    "a size that the patch does not divide": (
        with_value("view_1", lambda x: x[:, :15]),
        "multiple of `patch_size`.*15",
    ),
    "patches that are not there": (with_value("visible_ids", lambda x: x + 5), r"`visible_ids`.*\[0, 5\]"),
    "patches out of order": (with_value("visible_ids", lambda x: x[:, ::-1].copy()), "ascending"),
    "no patch visible": (with_value("visible_ids", lambda x: x[:, :0]), r"`visible_ids` must have \[1, .*Received: 0"),
    "geometry without scale": (with_value("relative_affine", lambda x: x * [1, 1, 0, 1]), "other than 0"),
    "six geometry numbers": (with_value("relative_affine", lambda x: np.tile(x, 2)), r"shape \(batch, 4\)"),
}


@pytest.mark.parametrize(("batch", "message"), BAD.values(), ids=BAD.keys())
def test_fit_refuses_and_leaves_the_model_alone(batch, message):
    model = compiled_nano_model()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        model.fit(batch, batch_size=4, verbose=0)
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_batch_1_needs_another_norm():
    with pytest.raises(ValueError, match="2 or more images.*batch size 1"):
        compiled_nano_model().fit(nano_batch(1), verbose=0)
    model = compiled_nano_model(model={"projector_norm": "layer", "decoder_norm": "layer"})
    assert np.isfinite(model.fit(nano_batch(1), verbose=0).history["loss"]).all()


def test_the_first_batch_of_an_iterator_is_looked_at_and_still_trained_on():
    model = compiled_nano_model()
    model.fit((nano_batch(4, seed) for seed in range(3)), steps_per_epoch=3, shuffle=False, verbose=0)
    assert int(ops.convert_to_numpy(model.batches_seen)) == 3


def test_a_later_call_checks_what_shapes_and_dtypes_tell():
    model = compiled_nano_model()
    with pytest.raises(ValueError, match="lacks visible_ids"):
        model(without("visible_ids"))
    with pytest.raises(ValueError, match="`view_1`.*float"):
        model(with_value("view_1", lambda x: x.astype("uint8")))


class Batches(keras.utils.PyDataset):
    """Four images, then one."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return nano_batch((4, 1)[index])


def tf_batches(**arguments):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(nano_batch(5)).batch(4, **arguments)


class Counted(keras.utils.PyDataset):
    """The same, of a length that Keras alone asks for."""

    @property
    def num_batches(self):
        return 2

    def __getitem__(self, index):
        return nano_batch((4, 1)[index])


def torch_batches(**arguments):
    import torch

    images = [{key: value[index] for key, value in nano_batch(5).items()} for index in range(5)]
    return torch.utils.data.DataLoader(images, batch_size=4, **arguments)


LAST_OF_ONE = {
    "arrays": (lambda: nano_batch(5), {"batch_size": 4}),
    "arrays less a validation split": (lambda: nano_batch(10), {"batch_size": 4, "validation_split": 0.1}),
    "a PyDataset": (Batches, {}),
    "a PyDataset that counts for itself": (Counted, {}),
    "tf.data": (tf_batches, {"shuffle": False}),
    "a DataLoader": (torch_batches, {}),
}


@pytest.mark.parametrize(("data", "arguments"), LAST_OF_ONE.values(), ids=LAST_OF_ONE.keys())
def test_a_last_batch_of_one_image_is_refused_before_the_first_step(data, arguments):
    model = compiled_nano_model()
    with pytest.raises(ValueError, match="2 or more images for BatchNorm.*last batch of 1 image"):
        model.fit(data(), verbose=0, **arguments)
    assert int(ops.convert_to_numpy(model.batches_seen)) == 0


@pytest.mark.one_backend("torch")
def test_a_long_pipeline_is_not_run_through_to_see_its_last_batch():
    import tensorflow as tf

    images = tf.data.Dataset.range(4 * READ_AT_MOST + 1).map(lambda index: {"view_1": index})
    assert last_batch_size(images.batch(4)) is None
    assert last_batch_size(images.batch(4).skip(1)) == 1
    assert last_batch_size(images.batch(4, drop_remainder=True)) == 4
    assert last_batch_size(images.filter(lambda image: image["view_1"] > 396).batch(4)) is None


@pytest.mark.one_backend("torch")
def test_an_endless_loader_has_no_last_batch():
    import torch

    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            while True:
                yield {key: value[0] for key, value in nano_batch(1).items()}

    assert last_batch_size(torch.utils.data.DataLoader(Endless(), batch_size=4)) is None
    assert last_batch_size(torch_batches(drop_last=True)) == 4


def test_epochs_that_do_not_reach_a_last_batch_of_one_image_are_trained():
    model = compiled_nano_model()
    model.fit(tf_batches(drop_remainder=True), shuffle=False, verbose=0)
    model.fit(tf_batches().repeat(), steps_per_epoch=1, shuffle=False, verbose=0)
    assert int(ops.convert_to_numpy(model.batches_seen)) == 2


def test_a_positional_batch_size_is_checked_too():
    with pytest.raises(ValueError, match="batch size 1"):
        compiled_nano_model().fit(nano_batch(4), None, 1, verbose=0)


def test_fit_before_compile_says_so():
    with pytest.raises(ValueError, match="must be compiled before `fit`"):
        nano_model().fit(nano_batch(4), verbose=0)


@pytest.mark.parametrize("name", ["class_weight", "sample_weight"])
def test_weights_of_classes_and_images_are_refused_by_name(name):
    with pytest.raises(ValueError, match=f"`{name}` must be None"):
        compiled_nano_model().fit(nano_batch(4), verbose=0, **{name: {0: 1.0}})


def test_batches_with_sample_weights_are_refused():
    weighted = iter([(nano_batch(4), np.zeros(4), np.ones(4))])
    with pytest.raises(ValueError, match="sample_weight"):
        compiled_nano_model().fit(weighted, steps_per_epoch=1, verbose=0)


def test_sample_weights_are_refused_wherever_they_come_in():
    model, batch, weights = compiled_nano_model(), nano_batch(4), np.ones(4)
    for train in (model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match="`sample_weight` must be None"):
            train(batch, sample_weight=weights)
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 0


SIZES = {
    "a decoder of no blocks": (nano_model, "decoder_depth", 0),
    "half a block": (nano_model, "projector_depth", 1.5),
    "blocks less than none": (nano_model, "projector_depth", -1),
    "no heads": (nano_model, "decoder_heads", 0),
    "a width that is no whole number": (nano_model, "decoder_width", 16.0),
    "no width": (nano_model, "decoder_width", 0),
    "no hidden width": (nano_model, "decoder_mlp_ratio", 0),
    "a flag": (nano_mae, "decoder_depth", True),
    "negative heads": (nano_mae, "decoder_heads", -2),
    "MAE without width": (nano_mae, "decoder_width", 0),
    "MoCo v3 without width": (nano_moco, "projector_width", 0),
    "MoCo v3 of a negative width": (nano_moco, "embedding_width", -8),
    "a target of no pixels": (nano_model, "target_image_size", 0),
}


@pytest.mark.one_backend("torch")
@pytest.mark.parametrize(("build", "name", "value"), SIZES.values(), ids=SIZES.keys())
def test_sizes_that_no_model_can_have_are_refused_by_name(build, name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: {value!r}"):
        build(**{name: value})


@pytest.mark.one_backend("torch")
@pytest.mark.parametrize(
    ("name", "value"),
    [("negative_weight", -1.0), ("negative_weight", np.nan), ("scope", {"dense": np.inf}), ("target_momentum", "0.9")],
)
def test_numbers_that_no_loss_can_have_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        nano_model(**{name: value})


@pytest.mark.one_backend("torch")
def test_numpy_integers_are_sizes():
    number = np.int64
    for build, sizes in (
        (nano_model, {"decoder_width": 16, "decoder_heads": 2, "decoder_depth": 1, "projector_depth": 1}),
        (nano_mae, {"decoder_width": 16, "decoder_heads": 2, "decoder_depth": 1}),
        (nano_moco, {"projector_width": 16, "embedding_width": 8}),
    ):
        config = build(**{name: number(size) for name, size in sizes.items()}).get_config()
        assert {name: type(config[name]) for name in sizes} == dict.fromkeys(sizes, int)
