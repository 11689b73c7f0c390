import html
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from keras_siamim.data.bad_images import BAD_IMAGES, Ledger
from keras_siamim.data.sources import array_source
from keras_siamim.recipes import load_recipe
from keras_siamim.reports import RunPage, read_summary, write_run_page
from keras_siamim.reports.html import VOID, element
from keras_siamim.reports.plots import plot
from keras_siamim.reports.summary import commands
from keras_siamim.runs import description as descriptions
from keras_siamim.runs.lock import FolderLock
from keras_siamim.runs.log import write_rows

pytestmark = pytest.mark.one_backend

SOURCE = array_source(np.zeros((10, 8, 8, 3), "uint8"))
HOSTILE = "<script>alert('x')</script> & \"quoted\""


def make_run(folder, losses=(0.9, 0.8), results=None, **changes):
    """A folder as `pretrain` leaves it, without a model."""
    folder.mkdir(parents=True)
    data = {**descriptions.DATA_OPTIONS, "data": f"/images/{HOSTILE}"}
    run = descriptions.describe("digits_tiny", load_recipe("digits_tiny", **{"epochs": 2, **changes}), data, SOURCE)
    run["data"]["source"] = HOSTILE
    run["starts"] = [{**descriptions.this_start(), "seconds": 100.0}, {**descriptions.this_start(), "seconds": 140.0}]
    run["results"] = results or {}
    descriptions.write(folder, run)
    rows = [{"epoch": epoch, "loss": loss, "rank": 10 * epoch + 5} for epoch, loss in enumerate(losses)]
    write_rows(folder / "log.csv", rows)
    return folder


class Outline(HTMLParser):
    """Parser that records tags, and fails for elements that are not closed in order."""

    def __init__(self, content):
        super().__init__()
        self.open, self.tags, self.urls, self.text = [], [], [], ""
        self.feed(content)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.urls += [value for name, value in attrs if name in ("src", "href")]
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        assert self.open.pop() in VOID

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += f"{data}\n"


def outline(folder):
    return Outline((folder / "report.html").read_text())


def test_a_page_is_complete_without_scripts_and_without_other_files(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "figures").mkdir()
    for name in ("prediction-0001", "prediction-0002", "token_pca-0002", "curves"):
        Image.new("RGB", (8, 8)).save(run / "figures" / f"{name}.png")
    write_run_page(run)
    page = outline(run)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert len(page.urls) == 2  # the newest figure of each kind, and no curves, which are drawn in the page
    assert all(url.startswith("data:image/png;base64,") for url in page.urls)
    assert not re.search(r"https?://|url\(|@import", (run / "report.html").read_text())
    assert "Predictions across views, epoch 2" in page.text


def test_a_page_tells_what_the_run_is_and_what_it_found(tmp_path):
    results = {"knn_before": 0.592, "knn_after": 0.839, "epochs": 2}
    run = make_run(tmp_path / "run", results=results)
    Ledger(run / BAD_IMAGES, 0.5).add(SOURCE, 3, HOSTILE)
    write_run_page(run)
    text = outline(run).text
    for part in (
        "digits_tiny",
        "finished",
        "2 of 2",
        "0.8000",
        "83.9 %",
        "59.2 %",
        "4 min",
        "ViT, width 96",
        "image 3",
    ):
        assert part in text, part
    assert text.count(HOSTILE) >= 3  # as text: title, images, reason and command do not become elements
    assert "Backend" in text
    assert descriptions.this_start()["machine"] in text


def test_text_becomes_no_element():
    assert element("p", HOSTILE, title=HOSTILE).count("<") == 2
    assert Outline(element("p", HOSTILE)).text.strip() == HOSTILE
    assert html.unescape(element("p", "a", element("b", "c"))) == "<p>a<b>c</b></p>"


def test_a_page_of_a_run_without_epochs_or_images_says_so(tmp_path):
    run = make_run(tmp_path / "run", losses=())
    write_run_page(run)
    assert "stopped after epoch 0 of 2" in outline(run).text


def test_the_state_of_a_run_is_that_of_its_lock_and_results(tmp_path):
    run = make_run(tmp_path / "run")
    assert read_summary(run).state == "stopped"
    with FolderLock(run):
        assert read_summary(run).state == "running"
    assert read_summary(make_run(tmp_path / "other", results={"epochs": 2})).state == "finished"
    assert read_summary(tmp_path) is None


def test_commands_repeat_a_run_with_its_changes_and_extensions(tmp_path):
    folder = make_run(tmp_path / "run", **{"encoder.depth": 2, "dtype": "mixed_bfloat16", "view_1.area": (0.5, 1.0)})
    run = json.loads((folder / "run.json").read_text())
    run["extensions"] = [{"epochs": 3, "schedule": "continued"}]
    run["data"]["data"] = "/my images"
    first, second = commands(run)
    assert first.endswith(
        "keras-siamim pretrain --recipe digits_tiny --data '/my images' --set epochs=2 encoder.depth=2 "
        "'view_1.area=(0.5, 1.0)' dtype=mixed_bfloat16 --run RUN"
    )
    assert second.endswith("keras-siamim pretrain --run RUN --continue-epochs 3 --schedule continued")


def test_commands_have_the_options_of_the_last_start(tmp_path):
    run = json.loads((make_run(tmp_path / "run") / "run.json").read_text())
    options = {"bad_limit": 0.05, "devices": None, "model_parallel": 1, "views_on_device": True, "keep": 9}
    run["starts"] = [descriptions.this_start({"devices": 3}), descriptions.this_start(options)]
    (command,) = commands(run)
    assert command.endswith(" --bad-limit 0.05 --views-on-device --set epochs=2")
    (command,) = commands({**run, "initial_weights": {"source": "/runs/one", "sha256": ""}})
    assert " --init-from /runs/one " in command


def test_a_page_that_fails_is_reported_once_and_ends_nothing(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "log.csv").write_text("epoch,loss\n0,oops\n")
    lines = []
    callback = RunPage(run, every_epochs=1, report=lines.append)
    callback.set_params({"epochs": 2})
    callback.on_epoch_end(0)
    callback.on_epoch_end(1)
    assert len(lines) == 1
    assert lines[0].startswith("no page report.html: could not convert string to float")
    assert not (run / "report.html").exists()


def test_a_plot_draws_each_curve_inside_its_frame_and_clips_the_band():
    drawn = plot(
        "loss", {"a": ([1, 2, 3], [3.0, 2.0, 1.0]), "b": ([2], [2.0])}, ("runs", [1, 2, 9], ([0, 0, 0], [9, 9, 9]))
    )
    points = re.findall(r'<polyline points="([^"]*)"', drawn)
    heights = [float(point.split(",")[1]) for point in points[0].split()]
    assert heights == sorted(heights)
    assert len(points) == 2
    xs = [float(point.split(",")[0]) for point in re.search(r'<polygon points="([^"]*)"', drawn)[1].split()]
    assert max(xs) < 390.1
    assert len(xs) == 4


def test_a_single_epoch_is_in_the_middle_of_its_axis():
    drawn = plot("k-NN", {"a": ([6], [0.5])})
    at = re.search(r'<circle cx="([^"]*)"', drawn)[1]
    assert re.findall(r'<text x="([^"]*)"[^>]*middle">([^<]*)<', drawn) == [(at, "6")]


def test_a_run_keeps_its_color_where_another_has_no_curve():
    assert 'class="curve-1"' in plot("k-NN", {"first": ([], []), "second": ([1, 2], [0.5, 0.6])})
