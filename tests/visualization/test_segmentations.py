import numpy as np
import pytest
from PIL import Image

from keras_siamim.visualization.segmentations import (
    class_colors,
    color_label_map,
    draw_segmentations,
    save_segmentations,
)

pytestmark = pytest.mark.one_backend


def example(height=40, width=60):
    labels = np.zeros((height, width), "uint8")
    labels[:, width // 2 :] = 1
    labels[0] = 255
    return np.full((height, width, 3), 9, "uint8"), labels, 1 - np.minimum(labels, 1)


def test_pixels_have_the_colors_of_their_classes():
    colored = color_label_map(np.array([[0, 1, 255, -1]]), 2)

    np.testing.assert_array_equal(colored[0, :2], class_colors(2))
    np.testing.assert_array_equal(colored[0, 2], colored[0, 3])
    assert not (colored[0, 2] == class_colors(255)).all(axis=1).any()


def test_image_labels_and_prediction_are_side_by_side():
    figure = np.asarray(draw_segmentations([example(), example(30, 30)], ("sky", "road")))

    scale = 192 / 40
    row = figure[20 + 10 + 150]  # in the first row of panels
    widths = round(60 * scale)
    sky, road = class_colors(2)
    for panel, (left, right) in enumerate([((9, 9, 9), (9, 9, 9)), (sky, road), (road, sky)]):
        start = 10 + panel * (widths + 10)
        np.testing.assert_array_equal(row[start + 20], left)
        np.testing.assert_array_equal(row[start + widths - 20], right)


def test_the_legend_grows_with_the_classes():
    few, many = (draw_segmentations([example()], [f"class {k}" for k in range(count)]) for count in (2, 100))

    assert many.height > few.height + 100
    assert many.width == few.width


def test_a_figure_is_written_completely_or_not_at_all(tmp_path):
    save_segmentations(tmp_path / "figure.png", [example()], ("sky", "road"))
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.height > 192
    with pytest.raises(ValueError, match="must hold at least one image"):
        save_segmentations(tmp_path / "empty.png", [], ("sky", "road"))
    with pytest.raises(ValueError, match="must end in the suffix of an image format"):
        save_segmentations(tmp_path / "figure.txt", [example()], ("sky", "road"))
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]
