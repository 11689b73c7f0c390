import numpy as np
import pytest

from keras_siamim.data.views import geometry

pytestmark = pytest.mark.one_backend


@pytest.fixture(scope="module")
def recorded():
    return dict(np.load("tests/reference/positions.npz"))


def test_the_six_numbers_equal_the_recorded_ones(recorded):
    crops = recorded["crops"]
    found = geometry.pair_geometry(crops[:, 0:5], crops[:, 5:10], crops[:, 11])
    for name, values in found._asdict().items():
        np.testing.assert_allclose(values, recorded[f"geometry/{name}"], atol=1e-6)


def test_the_affine_map_is_the_same_from_crops_and_from_recorded_numbers(recorded):
    crops = recorded["crops"]
    direct = geometry.affine_of_crops(crops[:, 0:5], crops[:, 5:10], crops[:, 11])
    folded = geometry.relative_affine({name: recorded[f"geometry/{name}"] for name in geometry.Geometry._fields})
    assert direct.shape == (40, 4)
    assert direct.dtype == folded.dtype == np.float32
    np.testing.assert_allclose(direct, folded, atol=1e-6)


def test_both_views_map_a_point_to_the_same_point_of_the_image(recorded):
    crops = recorded["crops"]
    one, two, width = crops[:, 0:5], crops[:, 5:10], crops[:, 11]
    centers = geometry.patch_centers((14, 14))
    mapped = geometry.view_2_to_view_1(centers, geometry.affine_of_crops(one, two, width))
    direct = geometry.view_to_image(centers[None], two, width)
    np.testing.assert_allclose(geometry.view_to_image(mapped, one, width), direct, atol=1e-3)


@pytest.mark.parametrize("flip", [0, 1])
def test_equal_views_give_the_identity(flip):
    crop = np.array([3, 5, 40, 30, flip])
    np.testing.assert_allclose(geometry.affine_of_crops(crop, crop, 64), [0, 0, 1, 1])


def test_a_flip_of_the_whole_image_mirrors_x():
    plain, flipped = np.array([0, 0, 48, 64, 0]), np.array([0, 0, 48, 64, 1])
    np.testing.assert_allclose(geometry.affine_of_crops(plain, flipped, 64), [0, 1, 1, -1])


def test_swapping_the_views_inverts_the_map(recorded):
    crops = recorded["crops"]
    forth = geometry.affine_of_crops(crops[:, 0:5], crops[:, 5:10], crops[:, 11])
    back = geometry.affine_of_crops(crops[:, 5:10], crops[:, 0:5], crops[:, 11])
    centers = geometry.patch_centers((4, 6))
    there = geometry.view_2_to_view_1(centers, forth)
    np.testing.assert_allclose(back[:, None, :2] + back[:, None, 2:] * there, centers[None].repeat(40, 0), atol=1e-5)


def test_patch_centers_of_a_rectangular_grid():
    centers = geometry.patch_centers((2, 4))
    np.testing.assert_allclose(centers[:5], [[0.25, 0.125], [0.25, 0.375], [0.25, 0.625], [0.25, 0.875], [0.75, 0.125]])
