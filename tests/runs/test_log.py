import pytest
import tensorflow as tf

from keras_siamim.runs.log import RunLog, read_rows

pytestmark = pytest.mark.one_backend


def log_epochs(folder, epochs, **logs):
    log = RunLog(folder)
    log.on_train_begin()
    for epoch in epochs:
        log.on_epoch_begin(epoch)
        log.on_epoch_end(epoch, {"loss": epoch / 3, **logs})


def test_every_epoch_has_one_row_with_all_digits(tmp_path):
    log_epochs(tmp_path, range(3))
    assert [float(row["loss"]) for row in read_rows(tmp_path / "log.csv")] == [0, 1 / 3, 2 / 3]


def test_rows_of_epochs_that_are_trained_again_are_deleted(tmp_path):
    log_epochs(tmp_path, range(4))
    complete = (tmp_path / "log.csv").read_text()
    log_epochs(tmp_path, [2, 3])
    assert (tmp_path / "log.csv").read_text() == complete
    log_epochs(tmp_path, [0])
    assert len(read_rows(tmp_path / "log.csv")) == 1


def test_a_later_column_comes_last(tmp_path):
    log_epochs(tmp_path, range(1))
    log_epochs(tmp_path, range(1, 2), wait=0.5)
    assert (tmp_path / "log.csv").read_text().splitlines()[0] == "epoch,loss,wait"


def test_tensorboard_reads_the_same_numbers(tmp_path):
    log_epochs(tmp_path, range(2))
    (path,) = (tmp_path / "tensorboard").iterdir()
    events = [tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    assert events[0].file_version == "brain.Event:2"
    values = [(event.step, value.tag, value.simple_value) for event in events[1:] for value in event.summary.value]
    assert values == [(0, "loss", 0.0), (1, "loss", pytest.approx(1 / 3))]
