import numpy as np
import pytest
from keras import ops
from scipy.linalg import eigh

from keras_siamim import ViTEncoder
from keras_siamim.evaluation.boxes import box_iou
from keras_siamim.evaluation.object_discovery import discover_object, extract_keys, object_discovery
from keras_siamim.ops import sincos_position_table
from tests.evaluation.stand_in import make_encoder

GRID, SIZE = (6, 9), (48, 36)  # patches of 8 x 4 pixels


def planted(mask, noise=0.1, seed=0):
    """Keys of two directions, inside and outside of a mask of patches."""
    random = np.random.default_rng(seed)
    directions = np.linalg.qr(random.normal(size=(12, 2)))[0].T
    return directions[np.asarray(mask, int).ravel()] + noise * random.normal(size=(np.size(mask), 12))


def square(*slices):
    mask = np.zeros(GRID, bool)
    for part in slices:
        mask[part] = True
    return mask


@pytest.mark.one_backend
def test_a_planted_square_is_found():
    keys = planted(square(np.s_[1:4, 5:8]))

    assert discover_object(keys, GRID, SIZE).tolist() == [20, 8, 32, 32]


@pytest.mark.one_backend
def test_the_larger_of_two_separate_squares_is_found():
    keys = planted(square(np.s_[0:1, 0:1], np.s_[2:6, 3:7]), noise=0.05)

    found = discover_object(keys, GRID, SIZE)

    # Both squares are foreground. The box is around one component only, not around both.
    assert found.tolist() in ([12, 16, 28, 48], [0, 0, 4, 8])


def by_definition(keys, threshold=0.2):
    """TokenCut by the generalized eigenvalue problem and a flood fill."""
    unit = keys / np.linalg.norm(keys, axis=1, keepdims=True)
    affinity = np.where(unit @ unit.T > threshold, 1, 1e-5)
    degrees = np.diag(affinity.sum(axis=1))
    vector = eigh(degrees - affinity, degrees)[1][:, 1]
    seed = np.abs(vector).argmax()
    above = vector > vector.mean()
    foreground = (above if above[seed] else ~above).reshape(GRID)
    component, queue = set(), [np.unravel_index(seed, GRID)]
    while queue:
        row, column = queue.pop()
        if (row, column) in component or not (0 <= row < GRID[0] and 0 <= column < GRID[1]):
            continue
        if foreground[row, column]:
            component.add((row, column))
            queue += [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
    rows, columns = zip(*component, strict=True)
    return [4 * min(columns), 8 * min(rows), 4 * max(columns) + 4, 8 * max(rows) + 8]


@pytest.mark.one_backend
@pytest.mark.parametrize("seed", range(8))
def test_boxes_equal_those_of_the_definition(seed):
    random = np.random.default_rng(seed)
    # Smooth random keys, whose graph has components of many shapes.
    keys = random.normal(size=(*GRID, 5))
    for axis in (0, 1):
        keys = keys + np.roll(keys, 1, axis)
    keys = keys.reshape(-1, 5)

    assert discover_object(keys, GRID, SIZE).tolist() == by_definition(keys)


@pytest.mark.one_backend
def test_scale_and_order_of_channels_do_not_matter(rng):
    keys = planted(square(np.s_[1:4, 5:8]), noise=0.3)

    changed = discover_object(keys[:, ::-1] * rng.uniform(0.5, 2, (54, 1)), GRID, SIZE)

    np.testing.assert_array_equal(changed, discover_object(keys, GRID, SIZE))


@pytest.mark.one_backend
def test_corloc_counts_images_whose_box_fits_any_annotation():
    masks = [square(np.s_[1:4, 5:8])] * 4 + [square()]
    keys = np.stack([planted(mask, seed=index) for index, mask in enumerate(masks)])
    found = [20, 8, 32, 32]
    boxes = [
        np.array([[0, 0, 4, 4], found]),  # one of two fits
        np.array([[20, 8, 32, 20]]),  # half of the box: an IoU of 0.5 counts
        np.array([[20, 8, 32, 19]]),  # less than half
        np.zeros((0, 4)),  # left out
        np.array([[0, 0, 36, 30]]),  # all keys are alike, so that the box is the complete image
    ]

    result = object_discovery(keys, GRID, boxes, SIZE)

    assert result.numbers["corloc"] == 3 / 4
    assert result.numbers["mean_iou"] == pytest.approx((1 + 0.5 + 11 / 24 + 30 / 48) / 4)
    assert result.numbers["corloc_complete_image"] == 1 / 4
    assert result.data["images"] == 4
    assert result.data["boxes"] == 5
    assert "1 of 5 images without boxes" in result.notes[0]
    assert "1 of 4 images have no unique cut" in result.notes[1]


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("`keys` must be a non-empty", {"keys": np.zeros((4, 3))}),
        ("`grid` must have 4 patches", {"grid": (2, 3)}),
        ("`boxes` must have one array per image, 1", {"boxes": []}),
        ("`boxes` must hold at least one box", {"boxes": [np.zeros((0, 4))]}),
        ("`boxes\\[0\\]` must be finite with x1 < x2", {"boxes": [np.array([[3, 0, 1, 1]])]}),
        ("`boxes\\[0\\]` must be a \\(boxes, 4\\) array", {"boxes": [np.array([3, 0, 1, 1])]}),
        ("`threshold` must be in \\[-1, 1\\]", {"threshold": 2.0}),
        ("`min_iou` must be in \\[0, 1\\]", {"min_iou": -0.1}),
    ],
)
def test_malformed_arguments_are_refused(message, changes):
    good = {"keys": np.ones((1, 4, 3)), "grid": (2, 2), "boxes": [np.array([[0, 0, 1, 1]])], "image_size": (8, 8)}
    with pytest.raises(ValueError, match=message):
        object_discovery(**{**good, **changes})


@pytest.mark.one_backend
def test_the_overlap_equals_a_count_of_pixels(rng):
    low = rng.integers(0, 6, (20, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 6, (20, 2))], axis=1)
    y, x = np.mgrid[:12, :12]
    masks = [(x >= x1) & (x < x2) & (y >= y1) & (y < y2) for x1, y1, x2, y2 in boxes]

    expected = [[np.sum(a & b) / np.sum(a | b) for b in masks] for a in masks]

    np.testing.assert_allclose(box_iou(boxes[:, None], boxes), expected)


def test_keys_are_those_of_the_last_attention_layer(rng):
    encoder = ViTEncoder(image_size=(16, 24), patch_size=8, width=12, depth=2, num_heads=3)
    weights = {weight.path: weight for weight in encoder.weights}
    for path, weight in weights.items():
        # Without weights, the first block hands its input on.
        weight.assign(np.zeros(weight.shape) if "block_0" in path else rng.normal(size=weight.shape))
    images = rng.normal(size=(3, 16, 24, 3)).astype("float32")

    keys, grid = extract_keys(encoder, [images[:2], images[2:]])

    def value(end):
        return next(ops.convert_to_numpy(weight) for path, weight in weights.items() if path.endswith(end))

    patches = images.reshape(3, 2, 8, 3, 8, 3).transpose(0, 1, 3, 2, 4, 5).reshape(3, 6, 192)
    x = patches @ value("patch_embedding/kernel").reshape(192, 12) + value("patch_embedding/bias")
    x = x + sincos_position_table((2, 3), 12, "rows_first")
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
    x = x * value("block_1/norm_1/gamma") + value("block_1/norm_1/beta")
    expected = x @ value("block_1/attention/qkv/kernel")[:, 12:24] + value("block_1/attention/qkv/bias")[12:24]
    assert grid == (2, 3)
    np.testing.assert_allclose(keys, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.one_backend
def test_other_encoders_and_malformed_batches_are_refused():
    images = np.zeros((2, 16, 16, 3), "float32")
    with pytest.raises(ValueError, match=r"`encoder` must be a ViTEncoder.* Received: PatchMeans\."):
        extract_keys(make_encoder(), [images])
    encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=1, num_heads=2)
    with pytest.raises(ValueError, match="`batches` must yield at least one batch"):
        extract_keys(encoder, [])
    with pytest.raises(ValueError, match="`batches` must have images of the size of the first batch"):
        extract_keys(encoder, [images, images[:, :8]])
