import numpy as np
import pytest
from PIL import Image

from keras_siamim.visualization import layout
from keras_siamim.visualization.attention import draw_attention
from keras_siamim.visualization.correspondence import draw_correspondence, mutual_neighbors
from keras_siamim.visualization.cross_view import draw_cross_view, retrieval
from keras_siamim.visualization.curves import draw_curves, draw_plot
from keras_siamim.visualization.reconstruction import draw_reconstruction, patches_of, reconstruct
from keras_siamim.visualization.token_pca import draw_token_pca, fit_color_basis, token_colors

pytestmark = pytest.mark.one_backend

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 8, 12, 3)).astype("float32")


def pixel(image, x, y):
    return tuple(np.asarray(image)[y, x].tolist())


def test_equal_tokens_have_equal_colors_at_every_resolution():
    kinds = RNG.normal(size=(4, 6))
    small, large = RNG.integers(0, 4, 6), RNG.integers(0, 4, 24)
    basis = fit_color_basis(np.concatenate([kinds[small], kinds[large]]))
    colors = token_colors(kinds[small][None], (2, 3), basis)[0].reshape(-1, 3)
    larger = token_colors(kinds[large][None], (4, 6), basis)[0].reshape(-1, 3)
    for kind in range(4):
        assert len({tuple(c) for c in [*colors[small == kind].tolist(), *larger[large == kind].tolist()]}) <= 1
    assert len({tuple(color) for color in larger.tolist()}) == 4


def test_colors_do_not_depend_on_the_order_of_tokens():
    tokens = RNG.normal(size=(50, 6))
    shuffled = fit_color_basis(tokens[RNG.permutation(50)])
    colors = [token_colors(tokens[None], (5, 10), basis) for basis in (fit_color_basis(tokens), shuffled)]
    np.testing.assert_allclose(*(c.astype(int) for c in colors), atol=1)


def test_right_places_and_images_are_counted():
    tokens = RNG.normal(size=(5, 6, 16))
    assert retrieval(tokens, tokens)[:2] == (1.0, 1 / 6)
    wrong = retrieval(tokens, np.roll(tokens, 1, axis=1))
    assert (wrong.place, wrong.image_chance) == (0.0, 1 / 5)


def test_positions_alone_find_the_place_and_not_the_image():
    positions = np.broadcast_to(RNG.normal(size=(1, 6, 16)), (40, 6, 16))
    found = retrieval(positions + 1e-3 * RNG.normal(size=(40, 6, 16)), positions + 1e-3 * RNG.normal(size=(40, 6, 16)))
    assert found.place == 1.0
    assert found.image < 4 / 40


def test_heat_maps_mark_the_right_place_and_the_most_similar_one():
    target = np.eye(6)[None]
    prediction = np.roll(target, 2, axis=1)  # the prediction of patch 4 looks like patch 2
    ids = np.array([[0, 5]])
    arguments = (IMAGES[:1], IMAGES[:1], ids, prediction, target, (2, 3), (2, 3))
    figure = draw_cross_view(*arguments, patches=[4])
    width, height = layout.panel(IMAGES[0]).size
    left = figure.width - layout.GAP - width if figure.width > 600 else 2 * (width + layout.GAP) + layout.GAP
    top = figure.height - layout.GAP - height
    corners = [(left + int(c * width / 3) + 1, top + int(r * height / 2) + 1) for r in range(2) for c in range(3)]
    colors = [pixel(figure, *corner) for corner in corners]
    assert colors[4] == layout.MARK
    assert colors[2] == (255, 255, 255)
    masked = pixel(figure, layout.GAP + width // 2, top + 5)  # patch 1 of view 1
    assert masked == (128, 128, 128)


def test_mutual_neighbors_undo_a_permutation():
    tokens, order = RNG.normal(size=(9, 16)), RNG.permutation(9)
    pairs = mutual_neighbors(tokens, tokens[order], count=9)
    assert sorted(pairs) == [(n, int(np.flatnonzero(order == n)[0])) for n in range(9)]


def test_normalized_pixels_are_reconstructed_exactly():
    patches = patches_of(IMAGES, 4)
    centered = patches - patches.mean(axis=-1, keepdims=True)
    normalized = centered / np.sqrt(patches.var(axis=-1, keepdims=True, ddof=1) + 1e-6)
    masked = RNG.random((3, 6)) < 0.5
    np.testing.assert_allclose(reconstruct(IMAGES, normalized, masked, 4, normalized=True), IMAGES, atol=1e-5)
    plain = reconstruct(IMAGES, np.zeros_like(patches), masked, 4, normalized=False)
    np.testing.assert_array_equal(patches_of(plain, 4) == 0, np.broadcast_to(masked[..., None], patches.shape))


def test_a_plot_draws_the_band_behind_the_curve():
    figure = draw_plot("loss", {"loss": ([1, 2, 3], [0.9, 0.9, 0.9])}, ([1, 2, 3], [0.85] * 3, [0.95] * 3))
    colors = {tuple(color) for color in np.asarray(figure).reshape(-1, 3).tolist()}
    assert {(0, 110, 220), (225, 225, 225)} <= colors


def test_curves_of_a_run_skip_missing_and_infinite_numbers():
    rows = [{"epoch": 0.0, "loss": float("nan")}, {"epoch": 1.0, "loss": 0.9, "knn": 0.4}, {"epoch": 2.0}]
    assert isinstance(draw_curves(rows), Image.Image)
    assert draw_curves([{"epoch": 0.0, "loss": float("nan")}]) is None


@pytest.mark.parametrize("size", [(4, 6), (2, 3)])
def test_every_figure_has_one_row_per_image(size):
    patches = size[0] * size[1]
    tokens = RNG.normal(size=(3, patches, 8))
    masked = np.zeros((3, 6), bool)
    figures = [
        draw_token_pca(IMAGES, [(tokens, size)]),
        draw_attention(IMAGES, RNG.random((3, 2, patches)), size),
        draw_correspondence(IMAGES, IMAGES, tokens, tokens, size),
        draw_reconstruction(IMAGES, np.zeros((3, 6, 48)), masked, 4, normalized=True),
        draw_cross_view(IMAGES, IMAGES, np.zeros((3, 1), int), tokens, tokens, size, size),
    ]
    height = layout.panel(IMAGES[0]).height
    assert all(3 * height < figure.height < 4 * height for figure in figures)
