"""Figures of a model while it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from keras_siamim.callbacks.observer import Observer
from keras_siamim.types import PathLike

if TYPE_CHECKING:  # figures need Pillow, this module does not
    from keras_siamim.visualization.events import EventWriter
    from keras_siamim.visualization.model_figures import Figure


class Figures(Observer):
    """Callback that saves figures every few epochs and after the last one, and logs the numbers that belong to them.

    The figures of epoch 40 are `NAME-0040.png`. Training is unchanged, bit by bit. A figure that fails is reported
    once.

    Args:
        folder: Path of the folder of figures, which is created.
        figures: Dictionary from names to functions that return a `Figure`, such as `ModelFigures(...).figures()`.
        every_epochs: Integer, 1 or more. Defaults to 10.
        events: `EventWriter` that also gets the figures, for TensorBoard. Defaults to None.
        writes: Bool. Write files; one of the processes that train together does. Defaults to True.
        report: Function of one line of text. Defaults to `print`.

    Raises:
        ValueError: If `every_epochs` is below 1.
    """

    def __init__(
        self,
        folder: PathLike,
        figures: Mapping[str, Callable[[], Figure]],
        every_epochs: int = 10,
        events: EventWriter | None = None,
        writes: bool = True,
        report: Callable[[str], object] = print,
    ):
        super().__init__(report)
        if every_epochs < 1:
            raise ValueError(f"`every_epochs` must be 1 or more. Received: {every_epochs}.")
        self.folder = Path(folder)
        self.figures = figures
        self.every_epochs = every_epochs
        self.events = events
        self.writes = writes

    def on_epoch_end(self, epoch, logs=None):
        if not self.is_due(epoch, self.every_epochs):
            return
        self.model  # noqa: B018  on JAX, this gives the variables their present values
        for name, draw in self.figures.items():
            numbers = self.attempt(f"figure {name}", self._save, name, draw, epoch)
            if numbers and logs is not None:
                logs.update(numbers)

    def _save(self, name, draw, epoch):
        figure = draw()
        if self.writes:
            from keras_siamim.visualization.writing import save_image

            self.folder.mkdir(parents=True, exist_ok=True)
            save_image(self.folder / f"{name}-{epoch + 1:04d}.png", lambda: figure.image)
            if self.events is not None:
                self.events.images(epoch, {name: figure.image})
        return figure.numbers
