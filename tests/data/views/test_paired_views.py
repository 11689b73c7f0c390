import numpy as np
import pytest
import tensorflow as tf

from keras_siamim.data.views import color, crops, geometry
from keras_siamim.data.views.on_device_views import RenderViews
from keras_siamim.data.views.paired_views import PairedViews
from keras_siamim.data.views.recipe import NUM_COLOR_SAMPLES, ONLINE, TARGET, ViewRecipe
from tests.data.images.photographs import photographs

PLAIN = ViewRecipe.crop_and_flip(area=(0.08, 1.0))
# One size and one batch size for all tests, so that XLA compiles little.
IMAGES = photographs()[:, 100:140, 200:248]
KEYS = ["view_1", "view_2", "relative_affine"]


def as_numpy(pair):
    return {key: np.asarray(values) for key, values in pair.items()}


def pairs_of(views, images, index, epoch=0):
    return as_numpy(views({"images": images, "index": np.asarray(index), "epoch": epoch}))


def coordinates(height, width):
    """Return an image whose pixels hold their own coordinates; 0.25 source pixel is one level at 64 pixels."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([y, x], -1)


def test_the_same_seed_epoch_and_image_give_the_same_pair():
    images = IMAGES
    views = PairedViews(16, seed=3)
    both = pairs_of(views, images, [8, 5], epoch=2)
    assert list(both) == KEYS
    for found in (
        pairs_of(PairedViews(16, seed=3), images[::-1], [5, 8], epoch=2),
        pairs_of(PairedViews.from_config(views.get_config()), images[::-1], [5, 8], epoch=2),
    ):
        for key in KEYS:
            np.testing.assert_array_equal(found[key][::-1], both[key])
    for other in (pairs_of(PairedViews(16, seed=4), images, [8, 5], 2), pairs_of(views, images, [8, 5], 3)):
        for key in KEYS:
            assert (other[key] != both[key]).any(axis=tuple(range(1, both[key].ndim))).all()


@pytest.mark.one_backend
def test_single_images_and_batches_agree_eagerly_and_in_tf_data():
    images = IMAGES
    views = PairedViews(16, seed=3)
    both = pairs_of(views, images, [0, 1])
    alone = [pairs_of(views, image, k) for k, image in enumerate(images)]
    examples = tf.data.Dataset.from_tensor_slices({"images": images, "index": np.arange(2)})
    mapped = as_numpy(next(iter(examples.map(views).batch(2))))
    batched = as_numpy(next(iter(examples.batch(2, drop_remainder=True).map(views))))
    for key in KEYS:
        np.testing.assert_array_equal(batched[key], both[key])
        for other in (np.stack([one[key] for one in alone]), mapped[key]):
            # Two resampling paths, by matrices and by spans, may round a level differently.
            assert np.abs(other - both[key]).mean() < 0.002


@pytest.mark.one_backend
def test_splitting_a_large_batch_does_not_change_its_views():
    images, views = np.repeat(IMAGES, 24, 0), PairedViews(96, TARGET, TARGET, seed=3)
    complete = pairs_of(views, images, np.arange(48))
    half = [pairs_of(views, images[:24], np.arange(24)), pairs_of(views, images[24:], np.arange(24, 48))]
    for key in KEYS:
        np.testing.assert_allclose(complete[key], np.concatenate([part[key] for part in half]), atol=0.02)


@pytest.mark.one_backend
def test_images_without_an_index_use_the_next_random_parameters_of_the_seed():
    images = IMAGES
    one, other = PairedViews(16, seed=1), PairedViews(16, seed=1)
    first, second = as_numpy(one(images)), as_numpy(one(images))
    assert (first["view_1"] != second["view_1"]).any()
    np.testing.assert_array_equal(as_numpy(other(images))["view_1"], first["view_1"])


@pytest.mark.one_backend
@pytest.mark.parametrize(("height", "width"), [(48, 64), (64, 64), (300, 200)])
def test_patch_centers_of_view_2_lie_in_view_1_where_the_geometry_says(height, width):
    # Pixels encode their own coordinates; mapped points must give the same coordinates in both views.
    count, grid, size = 400, (4, 4), 64
    views = PairedViews(size, PLAIN, PLAIN, seed=0)
    boxes, _ = views.draw(tf.range(count, dtype=tf.int64), 0, tf.fill([count], height), tf.fill([count], width))
    image = coordinates(height, width)
    weights = []
    for k in range(2):
        top, left, box_height, box_width, flip = (tf.cast(boxes[:, k, n], tf.float32) for n in range(5))
        weights.append(
            (
                crops.cubic_matrix(tf, height, size, top, box_height, tf.zeros_like(flip)).numpy(),
                crops.cubic_matrix(tf, width, size, left, box_width, flip).numpy(),
            )
        )
    # A separable resampling of coordinates: rows depend on y alone, columns on x alone.
    ys = [rows @ image[:, 0, 0] for rows, _ in weights]
    xs = [columns @ image[0, :, 1] for _, columns in weights]
    affine = views.relative_geometry(boxes, tf.fill([count], width))["relative_affine"].numpy()
    centers = geometry.patch_centers(grid)
    mapped = geometry.view_2_to_view_1(centers, affine)
    assert (affine[:, 3] < 0).any()
    assert (affine[:, 3] > 0).any()
    worst = 0.0
    for axis, values in ((0, ys), (1, xs)):
        in_2 = _read(values[1], np.broadcast_to(centers[:, axis], mapped.shape[:2]) * size)
        in_1 = _read(values[0], mapped[..., axis] * size)
        seen = (mapped > 2 / size).all(-1) & (mapped < 1 - 2 / size).all(-1)
        worst = max(worst, np.abs(in_1 - in_2)[seen].max())
    assert worst < 0.5


def _read(values, positions):
    # Linear interpolation of (images, pixels) at (images, points), pixel k's center at k + 0.5.
    pixels = np.arange(values.shape[1]) + 0.5
    return np.stack([np.interp(position, pixels, value) for position, value in zip(positions, values, strict=True)])


@pytest.mark.one_backend
def test_probabilities_and_strengths_over_10000_draws():
    views = PairedViews(8, seed=5)
    side = tf.fill([10_000], 64)
    _, samples = views.draw(tf.range(10_000, dtype=tf.int64), 1, side, side)
    assert samples.shape == (10_000, 2, NUM_COLOR_SAMPLES)
    for recipe, own in ((ONLINE, samples[:, 0]), (TARGET, samples[:, 1])):
        order, factors = (values.numpy() for values in recipe._jitter_parameters(tf, own[:, :9]))
        assert len({tuple(one) for one in order}) == 24
        np.testing.assert_allclose([(order[:, 0] == k).mean() for k in range(4)], 0.25, atol=0.02)
        jittered = (factors != [1, 1, 1, 0]).any(1)
        assert abs(jittered.mean() - 0.8) < 0.015
        low, high = factors[jittered].min(0), factors[jittered].max(0)
        np.testing.assert_allclose(low, [0.6, 0.6, 0.8, -0.1], atol=2e-3)
        np.testing.assert_allclose(high, [1.4, 1.4, 1.2, 0.1], atol=2e-3)
        np.testing.assert_allclose(factors[jittered].mean(0), [1, 1, 1, 0], atol=0.01)
        chosen = (own.numpy()[:, [9, 10, 12]] < [0.2, recipe.blur_probability, recipe.solarize_probability]).mean(0)
        np.testing.assert_allclose(chosen, [0.2, recipe.blur_probability, recipe.solarize_probability], atol=0.015)


@pytest.mark.one_backend
def test_the_paper_recipes_are_asymmetric():
    assert (ONLINE.blur_probability, ONLINE.solarize_probability) == (1.0, 0.0)
    assert (TARGET.blur_probability, TARGET.solarize_probability) == (0.1, 0.2)


def test_single_views_for_mae_and_probes():
    views = PairedViews((16, 24), ViewRecipe.crop_and_flip(area=(1.0, 1.0), flip_probability=0.0), view_2=None)
    images = photographs()[:, ::20, ::20]
    single = as_numpy(views(images))
    assert list(single) == ["view_1"]
    assert single["view_1"].shape == (2, 16, 24, 3)
    again = PairedViews.from_config(views.get_config())
    assert again.view_2 is None
    # Without colors the view is the image, resampled.
    resized = crops.resize(tf.constant(images[0, :, :]), (16, 24)).numpy()
    assert np.abs(color.denormalize(single["view_1"][0]).astype(int) - resized).mean() < 40


@pytest.mark.one_backend
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 30, 3), (300, 1, 3), (5, 7, 1), (2, 40, 48, 1)])
def test_tiny_and_gray_images_are_enlarged_and_repeated(shape):
    pair = as_numpy(PairedViews(16)(np.full(shape, 90, "uint8")))
    assert pair["view_1"].shape[-3:] == (16, 16, 3)
    assert all(np.isfinite(values).all() for values in pair.values())


@pytest.mark.one_backend
def test_floats_of_0_to_255_are_rounded():
    images = IMAGES
    for key, values in pairs_of(PairedViews(16), images.astype("float32"), [0, 1]).items():
        np.testing.assert_array_equal(values, pairs_of(PairedViews(16), images, [0, 1])[key])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((5, 5), "uint8"), r"Received: shape \(5, 5\)"),
        (np.zeros((1, 2, 5, 5, 3), "uint8"), "`images` must be"),
        (np.zeros((5, 5, 4), "uint8"), "3 channels, or 1 to be repeated. Received: 4"),
        (np.zeros((0, 5, 3), "uint8"), "at least one pixel"),
        (np.full((5, 5, 3), -3, "int32"), r"values in \[-3, -3\]"),
        (np.full((5, 5, 3), 300, "float32"), r"within \[0, 1\] or \[0, 255\]"),
        (np.full((5, 5, 3), np.nan, "float32"), r"values in \[nan, nan\]"),
    ],
)
def test_malformed_images_raise(images, message):
    with pytest.raises(ValueError, match=message):
        PairedViews(16)(images)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"flip_probability": 1.2}, r"`flip_probability` must be within \[0, 1\]. Received: 1.2"),
        ({"blur_probability": -0.1}, r"`blur_probability` must be within \[0, 1\]"),
        ({"solarize_probability": float("nan")}, "solarize_probability"),
        ({"brightness": -1}, "`brightness` must be at least 0"),
        ({"hue": 0.6}, r"`hue` must be within \[0, 0.5\]"),
        ({"area": (0, 1)}, "`area` must be two numbers with 0 < low <= high"),
        ({"area": (0.5, 1.5)}, r"`area` must lie within \[0, 1\]"),
        ({"aspect": (2, 1)}, "`aspect` must be two numbers"),
        ({"blur_sigma": (1,)}, "`blur_sigma` must be two numbers"),
    ],
)
def test_recipes_out_of_range_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        ViewRecipe(**arguments)


@pytest.mark.one_backend
@pytest.mark.parametrize("size", [0, (3, -1), (1, 2, 3), 2.5])
@pytest.mark.parametrize("layer", [PairedViews, RenderViews])
def test_an_image_size_without_pixels_raises(layer, size):
    with pytest.raises(ValueError, match="`image_size` must be .*whole number"):
        layer(size)


@pytest.mark.one_backend
def test_value_ranges_are_those_of_arrays_in_a_graph_too():
    images = IMAGES
    expected = pairs_of(PairedViews(16), images, [0, 1])
    scaled = pairs_of(PairedViews(16), (images / 255.0).astype("float32"), [0, 1])
    for key, values in expected.items():
        np.testing.assert_array_equal(scaled[key], values)

    def in_graph(pixels):
        data = tf.data.Dataset.from_tensors({"images": pixels, "index": [0, 1], "epoch": 0})
        return next(iter(data.map(PairedViews(16))))

    for key, values in in_graph((images / 255.0).astype("float32")).items():
        np.testing.assert_array_equal(values, expected[key])
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.UnknownError), match="or .0, 255."):
        in_graph(images * 2.0)
