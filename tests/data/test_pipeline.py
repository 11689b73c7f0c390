import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_siamim.data import pipeline, sources
from keras_siamim.data.masking import Masking
from keras_siamim.data.views import color
from keras_siamim.data.views.paired_views import PairedViews
from keras_siamim.data.views.recipe import ViewRecipe
from tests.data.images.photographs import photographs

pytestmark = pytest.mark.one_backend

PLAIN = ViewRecipe.crop_and_flip()
COUNT, BATCH = 22, 4


@pytest.fixture(scope="module")
def equal():
    """A source whose labels are its image numbers."""
    crops = np.stack([photographs()[k % 2, 9 * k : 9 * k + 40, 9 * k : 9 * k + 48] for k in range(COUNT)])
    return sources.array_source(crops, labels=np.arange(COUNT))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    for k in range(COUNT):
        (folder / f"{k:02}").mkdir()
        Image.fromarray(photographs()[k % 2, 9 * k : 9 * k + 40 + k, : 48 - k]).save(folder / f"{k:02}" / "a.png")
    return sources.folder_source(folder)


def batches(source, count, views=None, masking=None, **options):
    views = views or PairedViews(16, PLAIN, PLAIN, seed=2)
    masking = masking or Masking((2, 3), 4, min_block=1)
    made = pipeline.training_batches(source, views, masking, **{"batch_size": BATCH, **options})
    return list(itertools.islice(made.as_numpy_iterator(), count))


def assert_equal(some, others):
    for one, other in zip(some, others, strict=True):
        assert set(one) == set(other)
        for key, values in one.items():
            np.testing.assert_array_equal(values, other[key])


@pytest.mark.parametrize("kind", ["equal", "mixed"])
def test_batches_hold_what_the_contract_says(kind, request):
    (batch,) = batches(request.getfixturevalue(kind), 1)
    shapes = {key: (values.shape, values.dtype.name) for key, values in batch.items()}
    assert shapes == {
        "view_1": ((4, 16, 16, 3), "float32"),
        "view_2": ((4, 16, 16, 3), "float32"),
        "relative_affine": ((4, 4), "float32"),
        "visible_ids": ((4, 2), "int32"),
        "label": ((4,), "int32"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["equal", "mixed"])
def test_one_seed_one_run(kind, request):
    source = request.getfixturevalue(kind)
    views = PairedViews(16, seed=2)
    # The batch size of test_views, whose compiled functions serve here too.
    assert_equal(*(batches(source, 16, views, seed=9, batch_size=2) for _ in range(2)))
    (one,), (other,) = batches(source, 1, seed=9), batches(source, 1, seed=10)
    assert (one["label"] != other["label"]).any()


@pytest.mark.parametrize("kind", ["equal", "mixed"])
def test_every_epoch_has_another_order_other_views_and_other_masks(kind, request):
    steps = COUNT // BATCH
    found = batches(request.getfixturevalue(kind), 3 * steps, masking=Masking((4, 4), 8, min_block=2))
    epochs = [found[k * steps : (k + 1) * steps] for k in range(3)]
    labels = [np.concatenate([batch["label"] for batch in epoch]) for epoch in epochs]
    assert all(len(set(own)) == steps * BATCH for own in labels)
    assert (labels[0] != labels[1]).any()
    for key in ("relative_affine", "visible_ids", "view_1"):
        by_label = [
            {label: values for batch in epoch for label, values in zip(batch["label"], batch[key], strict=True)}
            for epoch in epochs[:2]
        ]
        common = by_label[0].keys() & by_label[1].keys()
        assert np.mean([(by_label[0][label] != by_label[1][label]).any() for label in common]) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["equal", "mixed"])
def test_a_run_starts_again_at_any_epoch_and_step(kind, request):
    source = request.getfixturevalue(kind)
    whole = batches(source, 14)
    assert_equal(batches(source, 6, start_epoch=1, start_step=3), whole[8:14])
    assert_equal(batches(source, 4, start_epoch=1, start_step=5), whole[10:14])


@pytest.mark.slow
def test_records_too_start_again_at_any_step(tmp_path, equal):
    with tf.io.TFRecordWriter(str(tmp_path / "a")) as writer:
        for example in equal.examples(0, 0, False):
            data = tf.train.BytesList(value=[tf.io.encode_png(example["image"]).numpy()])
            feature = {"image/encoded": tf.train.Feature(bytes_list=data)}
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    source = sources.record_source([tmp_path / "a"])
    whole = batches(source, 12, shuffle_buffer=10)
    assert_equal(batches(source, 4, shuffle_buffer=10, start_epoch=1, start_step=3), whole[8:])


def test_workers_share_an_epoch_and_together_make_the_same_pairs(equal):
    alone = batches(equal, 5)
    shared = [batches(equal, 2, workers=2, worker=worker) for worker in range(2)]
    pairs = {label: view for batch in alone for label, view in zip(batch["label"], batch["view_1"], strict=True)}
    seen = []
    for batch in itertools.chain(*shared):
        seen.extend(batch["label"])
        for label, view in zip(batch["label"], batch["view_1"], strict=True):
            if label in pairs:
                np.testing.assert_array_equal(view, pairs[label])
    assert len(set(seen)) == len(seen) == 16


def test_unshuffled_single_views_without_masks(equal):
    views = PairedViews(16, ViewRecipe.crop_and_flip(area=(0.2, 1)), view_2=None)
    made = pipeline.training_batches(equal, views, batch_size=BATCH, shuffle=False)
    (batch,) = itertools.islice(made.as_numpy_iterator(), 1)
    assert set(batch) == {"view_1", "label"}
    np.testing.assert_array_equal(batch["label"], np.arange(4))


@pytest.mark.parametrize("kind", ["equal", "mixed"])
def test_evaluation_images_come_in_order_and_all_of_them(kind, request):
    source = request.getfixturevalue(kind)
    found = list(pipeline.evaluation_batches(source, (16, 32), 5).as_numpy_iterator())
    assert [len(batch["label"]) for batch in found] == [5, 5, 5, 5, 2]
    np.testing.assert_array_equal(np.concatenate([batch["label"] for batch in found]), np.arange(COUNT))
    assert found[0]["view_1"].shape == (5, 16, 32, 3)
    whole = color.denormalize(found[0]["view_1"])
    assert 20 < whole.mean() < 235


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 23}, "`batch_size` must be at most 22, the number of images of array per worker. Received: 23"),
        ({"batch_size": 12, "workers": 2}, "`batch_size` must be at most 11"),
        ({"batch_size": 0}, "`batch_size` must be a whole number, 1 or more"),
        ({"batch_size": 4, "worker": 1}, r"`worker` must be in \[0, 0\]"),
        ({"batch_size": 4, "start_step": 6}, r"`start_step` must be in \[0, 5\]"),
    ],
)
def test_what_the_images_cannot_give_is_refused(equal, options, message):
    with pytest.raises(ValueError, match=message):
        pipeline.training_batches(equal, PairedViews(16), **options)


def test_a_frame_larger_than_the_resized_image_is_refused(equal):
    with pytest.raises(ValueError, match=r"`resize` must be at least `image_size`, \(16, 16\). Received: \(8, 8\)"):
        pipeline.evaluation_batches(equal, 16, 4, resize=8)


@pytest.mark.slow
def test_a_program_that_fails_while_its_pipeline_works_ends():
    command = [sys.executable, "-m", "tests.programs.fail_at_work"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("RuntimeError: failed at work")
