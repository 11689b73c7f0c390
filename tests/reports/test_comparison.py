import pytest

from keras_siamim.cli.main import main
from keras_siamim.reports.comparison import differing_settings, find_runs
from tests.reports.test_run_page import Outline, make_run

pytestmark = pytest.mark.one_backend


@pytest.fixture
def folder(tmp_path):
    """Two runs, a damaged one, and a folder that is no run of `pretrain`."""
    make_run(tmp_path / "digits_tiny" / "10", results={"knn_before": 0.5, "knn_after": 0.75, "epochs": 2})
    make_run(tmp_path / "digits_tiny" / "2", losses=(0.9,), **{"encoder.depth": 2})
    for name, content in (("broken", "{"), ("other", '{"settings": {}}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(content)
    return tmp_path


def test_runs_are_found_in_the_order_of_their_numbers(folder):
    summaries, damaged = find_runs(folder)
    assert [summary.folder.name for summary in summaries] == ["2", "10"]
    assert len(damaged) == 1
    assert "broken" in damaged[0]
    assert [summary.folder for summary in find_runs(folder / "digits_tiny" / "2")[0]] == [folder / "digits_tiny" / "2"]


def test_the_command_prints_one_row_per_run(folder, capsys):
    assert main(["runs", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("column 2 (char 1)).") or "broken" in lines[0]
    assert lines[-2].split() == [
        "digits_tiny/2",
        "digits_tiny",
        "stopped",
        "1/2",
        "0.9000",
        "–",
        "–",
        "5.0",
        "4",
        "min",
    ]
    assert lines[-1].split()[2:8] == ["finished", "2/2", "0.8000", "50.0", "%", "75.0"]


def test_the_page_compares_runs_and_links_to_their_pages(folder):
    (folder / "digits_tiny" / "10" / "report.html").write_text("")
    page = folder / "pages" / "runs.html"
    page.parent.mkdir()
    assert main(["runs", str(folder), "--page", str(page)]) == 0
    outline = Outline(page.read_text())
    assert "recipe" not in outline.text  # the names of the runs tell it
    assert outline.urls == ["../digits_tiny/10/report.html"]
    assert "script" not in outline.tags
    assert outline.tags.count("svg") == 2  # loss and rank
    assert "encoder.depth" in outline.text


def test_only_settings_that_differ_are_listed(folder):
    summaries, _ = find_runs(folder)
    assert differing_settings(summaries) == {"encoder.depth": ["2", "4"]}
    assert differing_settings(summaries[:1]) == {}


def test_a_folder_without_runs_is_no_success(tmp_path, capsys):
    assert main(["runs", str(tmp_path)]) == 1
    assert "no runs of pretrain" in capsys.readouterr().out
    assert main(["runs", str(tmp_path / "none")]) == 1
    assert "must be a folder of runs" in capsys.readouterr().err
