"""Figure of the curves of a run, drawn from its log."""

from collections.abc import Callable
from pathlib import Path

from keras_siamim.callbacks.observer import Observer
from keras_siamim.runs.log import read_rows
from keras_siamim.visualization.curves import draw_curves
from keras_siamim.visualization.writing import save_image


class Curves(Observer):
    """Callback that draws the curves of a run every few epochs and after the last one. Put it after `RunLog`.

    Args:
        folder: `pathlib.Path` of the run folder. The figure is `figures/curves.png`.
        every_epochs: Integer, 1 or more. Defaults to 1.
        report: Function of one line of text. Defaults to `print`.
    """

    def __init__(self, folder: Path, every_epochs: int = 1, report: Callable[[str], object] = print):
        super().__init__(report)
        self.folder = folder
        self.every_epochs = every_epochs

    def on_epoch_end(self, epoch, logs=None):
        if self.is_due(epoch, self.every_epochs):
            self.attempt("figure of curves", save_curves, self.folder)


def save_curves(folder: Path) -> None:
    """Draw the curves of a run to `figures/curves.png` in its folder; nothing if its log has no numbers.

    Args:
        folder: Path of the run folder, with `log.csv`.

    Raises:
        OSError: If a file cannot be read or written.
    """
    rows = [{name: float(value) for name, value in row.items() if value} for row in read_rows(folder / "log.csv")]
    figure = draw_curves(rows)
    if figure is not None:
        path = folder / "figures" / "curves.png"
        path.parent.mkdir(exist_ok=True)
        save_image(path, lambda: figure)
