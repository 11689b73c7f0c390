"""Alarm for collapsed features, from unlabeled images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from keras_siamim.callbacks.live_encoder import LiveEncoder
from keras_siamim.callbacks.observer import Observer
from keras_siamim.evaluation.health import channel_spread, dead_channels, effective_rank, same_image_rank

REMEDIES = (
    "What to try, in this order: compare the loss with that of an untrained model (`expected_initial_loss`); give the "
    "negative term of the loss more weight (`negative_weight`, whose default grows as the decoder gets narrower); use "
    "a loss that has a negative term (`unigrad` or `info_nce`); keep `target_momentum` below 1; lower the learning "
    "rate or lengthen its warm-up; check that the images differ (`keras-siamim show-views`)."
)


# Measures that are logged, and the names of the branches in alarms.
LOGGED = ("rank", "spread", "dead_channels", "same_image")
NAMES = {"encoder": "Features of the encoder", "target": "Targets of the prediction"}
# Largest difference of normalized pixels between images that look the same.
_SAME = 1e-3


@dataclasses.dataclass(frozen=True)
class Health:
    """Measures of the features of two crops per image.

    Attributes:
        rank: Float. Effective rank of the features of the first crops (RankMe).
        highest_rank: Integer. Largest possible rank, the smaller one of images and width.
        spread: Float. Mean standard deviation of the normalized channels, about 1 for evenly spread features.
        dead_channels: Float in [0, 1]. Share of channels that are the same for all images.
        same_image: Float in [0, 1]. How often the other crop of an image is nearer than a crop of another image.
    """

    rank: float
    highest_rank: int
    spread: float
    dead_channels: float
    same_image: float


def measure(features: np.ndarray) -> Health:
    """Measure the features of two crops per image.

    Args:
        features: (2, images, width) floats, two images or more.

    Raises:
        ValueError: If there are fewer than two images, or values that are not finite.

    Example:
        >>> measure(np.ones((2, 8, 4))).dead_channels
        1.0
    """
    if features.shape[1] < 2:
        raise ValueError(f"two or more images are needed, there are {features.shape[1]}")
    if not np.isfinite(features).all():
        raise ValueError("the features are not finite")
    return Health(
        rank=effective_rank(features[0]),
        highest_rank=min(features.shape[1:]),
        spread=channel_spread(features[0]),
        dead_channels=dead_channels(features[0]),
        same_image=same_image_rank(*features),
    )


class FeatureHealth(Observer):
    """Callback that measures the features of fixed unlabeled images, and prints an alarm when they collapse.

    It measures before the first step, then every `every_steps` batches, and after the last epoch. An epoch with a
    measurement logs `rank`, `spread`, `dead_channels` and `same_image` of the latest `Health`, and `target_rank` and so
    on of the target branch. Targets often collapse while the encoder still passes pixels on. Features count as
    collapsed in a measurement if

    - their effective rank is below `min_rank` times the largest possible one, or
    - half of the channels or more are dead, or
    - their spread is below `min_spread`: at 0.12, less than 1.5% of their energy differs between images, or
    - they hardly depend on the image: the other crop of an image is nearer than a crop of another image in a share
      below `min_same_image`. This finds features that encode positions alone.

    The alarm is printed after `patience` such measurements in a row, once until a healthy one follows. `collapsed` in
    the logs is 1 as long as it lasts, and otherwise 0. Training is unchanged, bit by bit.

    Attributes:
        history: List of tuples (batches seen by this callback, dictionary from `"encoder"` and `"target"` to `Health`).
        alarms: List of strings. Alarms so far.

    Args:
        crops: (2, images, height, width, 3) float32, normalized. Two different crops of each image.
        every_steps: Integer, 1 or more. Batches between two measurements. Defaults to 100.
        min_rank: Float in [0, 1]. Defaults to 0.05.
        min_spread: Float in [0, 1]. Defaults to 0.12. The lowest measurement of healthy runs on digits was
            0.121, that of collapsed ones 0.044.
        min_same_image: Float in [0, 1]; 0.5 is chance. Defaults to 0.55.
        patience: Integer, 1 or more. Measurements in a row before an alarm. Defaults to 3.
        encoder: `LiveEncoder`. Defaults to one for the encoder of the model that trains.
        target: `LiveEncoder` of the target branch, such as `LiveEncoder(model.target)`. Defaults to None, not measured.
        report: Function of one line of text. Defaults to `print`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> encoder = LiveEncoder(ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2))
        >>> crops = np.random.default_rng(0).normal(size=(2, 16, 8, 8, 3)).astype("float32")
        >>> model, health = keras.Sequential([keras.layers.Dense(1)]), FeatureHealth(crops, encoder=encoder)
        >>> model.compile("sgd", "mse")
        >>> "rank" in model.fit(np.ones((2, 3)), np.ones((2, 1)), verbose=0, callbacks=[health]).history
        True
    """

    def __init__(
        self,
        crops: np.ndarray,
        every_steps: int = 100,
        min_rank: float = 0.05,
        min_spread: float = 0.12,
        min_same_image: float = 0.55,
        patience: int = 3,
        encoder: LiveEncoder | None = None,
        target: LiveEncoder | None = None,
        report: Callable[[str], object] = print,
    ):
        super().__init__(report)
        if crops.ndim != 5 or len(crops) != 2:
            raise ValueError(f"`crops` must be (2, images, height, width, 3). Received: shape {crops.shape}.")
        for name, count in (("every_steps", every_steps), ("patience", patience)):
            if count < 1:
                raise ValueError(f"`{name}` must be 1 or more. Received: {count}.")
        shares = {"min_rank": min_rank, "min_spread": min_spread, "min_same_image": min_same_image}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"`{name}` must be in [0, 1]. Received: {share}.")
        self.crops = crops
        self.every_steps = every_steps
        self.min_rank = min_rank
        self.min_spread = min_spread
        self.min_same_image = min_same_image
        self.patience = patience
        self.encoders = {"encoder": encoder or LiveEncoder()} | ({} if target is None else {"target": target})
        self.history: list[tuple[int, dict[str, Health]]] = []
        self.alarms: list[str] = []
        self._steps = self._bad = 0
        self._measured = False  # in this epoch

    def on_train_begin(self, logs=None):
        if not self.history:
            self.attempt("health of the features", self._measure)

    def on_epoch_begin(self, epoch, logs=None):
        self._measured = False

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1
        if self._steps % self.every_steps == 0:
            self.attempt("health of the features", self._measure)

    def on_epoch_end(self, epoch, logs=None):
        is_measured = bool(self.history) and self.history[-1][0] == self._steps
        if self.is_last(epoch) and not is_measured:
            self.attempt("health of the features", self._measure)
        if not self._measured or logs is None:
            return
        logs["collapsed"] = int(self._bad >= self.patience)
        for name, health in self.history[-1][1].items():
            prefix = "target_" if name == "target" else ""
            logs.update({prefix + key: getattr(health, key) for key in LOGGED})

    def _measure(self):
        if self.crops.shape[1] > 1 and np.ptp(self.crops, axis=1).max() < _SAME:
            raise ValueError("all images look the same, so that no features could tell them apart")
        found = {
            name: measure(np.stack([encoder.features(self.model, crops) for crops in self.crops]))
            for name, encoder in self.encoders.items()
        }
        self.history.append((self._steps, found))
        self._measured = True
        problems = [f"{NAMES[name]}: {problem}" for name in found if (problem := self.problem(found[name]))]
        self._bad = self._bad + 1 if problems else 0
        if self._bad == self.patience:
            first = self.history[-self.patience][0]
            self.alarms.append(
                f"Alarm: the features have collapsed, in {self.patience} measurements in a row, steps {first} to "
                f"{self._steps}. {'; '.join(problems)}. {REMEDIES}"
            )
            self.report(self.alarms[-1])

    def problem(self, health: Health) -> str | None:
        """Return a phrase that tells why features count as collapsed, or None if they do not."""
        if health.rank < self.min_rank * health.highest_rank:
            return f"effective rank {health.rank:.1f} of {health.highest_rank}, below the limit of {self.min_rank:.0%}"
        if health.dead_channels >= 0.5:
            return f"{health.dead_channels:.0%} of the channels are the same for all images"
        if health.spread < self.min_spread:
            return f"only {health.spread**2:.1%} of their energy differs between images"
        if health.same_image < self.min_same_image:
            return (
                "they hardly depend on the image, since the other crop of an image is nearer than a crop of another "
                f"image in only {health.same_image:.0%} of all cases, where 50% is chance"
            )
        return None
