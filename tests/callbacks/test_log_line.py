import types

import numpy as np
import pytest

from keras_siamim.callbacks import LogLine, ReferenceCurve, log_line
from keras_siamim.callbacks.log_line import format_logs
from keras_siamim.callbacks.reference_curve import LossBand

pytestmark = pytest.mark.one_backend

LOGS = {
    "loss": 0.82819,
    "knn": 0.612,
    "rank": 30.7,
    "learning_rate": 2.81e-3,
    "target_momentum": 0.9561,
    "seconds_per_step": 0.0957,
    "data_wait": 0.018,
    "skipped": 0,
    "negative_term": 3.0,
}
LINE = "loss 0.8282 · k-NN 61.2 % · rank 31 · lr 2.8e-3 · momentum 0.956 · 96 ms/step · data wait 2 %"


def test_a_line_has_the_numbers_that_a_reader_needs():
    assert format_logs(LOGS, seconds_left=715) == f"{LINE} · 12 min left"


def test_skipped_steps_are_named_only_if_there_were_any():
    assert format_logs({**LOGS, "skipped": 3}) == f"{LINE} · skipped 3"


def test_missing_numbers_are_left_out():
    assert format_logs({}) == ""


def run(monkeypatch, epochs, steps, seconds, compilation=0.0, **arguments):
    """Report epochs of steps that take `seconds` each, and the first one `compilation` more."""
    now, lines = [0.0], []
    monkeypatch.setattr(log_line, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    line = LogLine(report=lines.append, **{"first_seconds": 1e9, **arguments})
    line.set_params({"epochs": epochs, "steps": steps})
    line.on_train_begin()
    for epoch in range(epochs):
        line.on_epoch_begin(epoch)
        for step in range(steps):
            now[0] += seconds + (compilation if not epoch and not step else 0)
            line.on_train_batch_end(step, {"loss": 0.5})
        line.on_epoch_end(epoch, {"loss": 0.5})
    return lines


def test_every_epoch_has_its_time_per_step_and_the_time_left(monkeypatch):
    assert run(monkeypatch, epochs=2, steps=10, seconds=2.0, compilation=30.0) == [
        "epoch 1/2 · loss 0.5000 · 2000 ms/step · 20 s left",
        "epoch 2/2 · loss 0.5000 · 2000 ms/step",
    ]


def test_long_epochs_report_their_progress(monkeypatch):
    lines = run(monkeypatch, epochs=1, steps=5, seconds=40.0, every_seconds=60)
    assert [line.split(" · ")[0] for line in lines] == ["epoch 1/1, step 2/5", "epoch 1/1, step 4/5", "epoch 1/1"]


def test_the_first_line_comes_early_and_estimates_the_time_of_the_run(monkeypatch):
    lines = run(monkeypatch, epochs=3, steps=10, seconds=2.0, first_seconds=5)
    assert lines[0] == "epoch 1/3, step 4/10 · loss 0.5000 · 2000 ms/step · 52 s left"
    assert [line.split(" · ")[0] for line in lines[1:]] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]


def test_the_line_tells_where_the_loss_lies_in_the_band_of_recorded_runs():
    band = LossBand(low=np.array([0.8]), high=np.array([0.9]), runs=5)
    for loss, place in ((0.85, "within"), (0.95, "above"), (0.7, "below"), (float("nan"), "above")):
        logs = {"loss": loss}
        ReferenceCurve(band, report=None).on_epoch_end(0, logs)
        assert format_logs(logs).endswith(f"{place} the band of the recorded runs at this epoch (0.8000 to 0.9000)")


def test_nothing_is_said_without_a_band_or_beyond_its_epochs(capsys):
    band = LossBand(low=np.array([0.8]), high=np.array([0.9]), runs=5)
    for curve, epoch in ((ReferenceCurve(None), 0), (ReferenceCurve(band), 1)):
        logs = {"loss": 0.85}
        curve.on_epoch_end(epoch, logs)
        assert logs == {"loss": 0.85}
    assert capsys.readouterr().out == ""
