"""Linear segmentation of frozen patch tokens with a trained head (DINOv2, arXiv 2304.07193; DINOv3)."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_siamim._backend import TrainStep
from keras_siamim.arguments import height_and_width, whole_number
from keras_siamim.evaluation.features import check_images
from keras_siamim.evaluation.mean_iou import IGNORE
from keras_siamim.evaluation.patch_features import grid_of, patch_token_function
from keras_siamim.evaluation.result import EvaluationResult, stopwatch
from keras_siamim.evaluation.segmentation_protocol import class_numbers
from keras_siamim.layers import TokenBatchNorm
from keras_siamim.objectives.skipped_steps import SkipNonFiniteSteps
from keras_siamim.optimizers import AdamW
from keras_siamim.segmentation.layers import CHANNELS_LAST, class_logits, resize_bilinear
from keras_siamim.segmentation.loss import pixel_cross_entropy
from keras_siamim.segmentation.scoring import score_images
from keras_siamim.segmentation.windows import slide
from keras_siamim.types import Size

# The protocol's settings, from which a result names every deviation.
STEPS, WARMUP_STEPS, BATCH_SIZE, WINDOW = 40_000, 1500, 16, 512
_FIRST_RATE = 1e-6


@keras.saving.register_keras_serializable(package="keras_siamim")
class LinearHead(SkipNonFiniteSteps, TrainStep, keras.Model):
    """BatchNorm over the global batch, dropout of channels, and a 1 x 1 convolution to class logits.

    The loss is the mean cross-entropy over labeled pixels, of logits that are resized bilinearly to the labels.

    Args:
        num_classes: int, 2 or more. Number of classes.
        dropout: float in [0, 1). Rate of dropped channels. Defaults to 0.1.
        ignore: int. Label of pixels without a class. Defaults to 255.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        maps: (batch, rows, columns, width) float. Patch tokens on their grid.

    Returns:
        (batch, rows, columns, num_classes) float32.

    Example:
        >>> from keras_siamim.segmentation.linear import LinearHead
        >>> tuple(LinearHead(num_classes=3)(keras.ops.zeros((1, 2, 2, 8))).shape)
        (1, 2, 2, 3)
    """

    def __init__(self, num_classes: int, dropout: float = 0.1, ignore: int = IGNORE, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_classes = whole_number("num_classes", num_classes, minimum=2)
        self.dropout = dropout
        self.ignore = ignore
        policy = self.dtype_policy
        self.norm = TokenBatchNorm(dtype=policy, name="norm")
        self.channel_dropout = keras.layers.SpatialDropout2D(dropout, dtype=policy, name="dropout", **CHANNELS_LAST)
        self.logits = class_logits(num_classes, policy)
        self.add_skip_counters()

    def build(self, maps_shape):
        for layer in (self.norm, self.channel_dropout, self.logits):
            layer.build(maps_shape)
        self.built = True

    def call(self, maps, training=False):
        x = self.channel_dropout(self.norm(maps, training=training), training=training)
        return ops.cast(self.logits(x), "float32")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return pixel_cross_entropy(y_pred, y, self.ignore, over_labeled=True)

    def get_config(self):
        config = {"num_classes": self.num_classes, "dropout": self.dropout, "ignore": self.ignore}
        return {**super().get_config(), **config}


def linear_segmentation(
    encoder: keras.Model | Callable[[np.ndarray], Any],
    train: Iterable[tuple[np.ndarray, np.ndarray]],
    test: Iterable[tuple[np.ndarray, np.ndarray]],
    num_classes: int,
    window: Size = WINDOW,
    steps: int = STEPS,
    warmup_steps: int = WARMUP_STEPS,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-3,
    ignore: int = IGNORE,
    class_names: Sequence[str] = (),
    seed: int = 0,
    verbose: int = 0,
) -> EvaluationResult:
    """Train a linear head on frozen patch tokens of augmented crops, and score it on whole images.

    The encoder is frozen and runs once per batch. The learning rate rises linearly from 1e-6 and then falls to 0
    by half a cosine. Test images are cut into overlapping windows, two thirds of a window apart.

    Args:
        encoder: `keras.Model`, or a callable on NumPy arrays such as a `SavedModelEncoder`, from images to tokens
            (batch, 1 + patches, width), class token first.
        train: Iterable of batches: crops (batch, *window, 3) float32, normalized, and label maps (batch, *window). It
            is repeated if it has fewer than `steps` batches.
        test: Iterable of pairs of an image (height, width, 3) float32, normalized, and its label map at the original
            size. The protocol resizes the shorter side to 512.
        num_classes: Integer, 2 or more. Number of classes.
        window: int or (height, width) of a crop and of a window in pixels. Defaults to 512.
        steps: Integer. Training steps. Defaults to 40,000.
        warmup_steps: Integer in [0, steps). Defaults to 1500.
        learning_rate: Float. Highest learning rate. Defaults to 1e-3.
        weight_decay: Float. Defaults to 1e-3.
        ignore: Integer. Label of pixels without a class. Defaults to 255.
        class_names: Sequence of strings. Names of the classes. Defaults to their indices.
        seed: Integer. Seed of the head. Defaults to 0.
        verbose: Integer. 1 shows progress bars. Defaults to 0.

    Returns:
        An `EvaluationResult` with `miou`, `pixel_accuracy`, `mean_accuracy`, `train_loss`, and one `iou NAME` per class
        that occurs. Notes name the deviations from the protocol.

    Raises:
        ValueError: If `train` is empty, `warmup_steps` is not below `steps`, or the tokens form no grid.

    Example:
        >>> from keras_siamim.evaluation import RawPatches
        >>> labels = np.array([[[0, 0, 1, 1]] * 4] * 2)
        >>> images = np.repeat(labels[..., None], 3, axis=-1).astype("float32")
        >>> batches, examples = [(images, labels)], list(zip(images, labels, strict=True))
        >>> result = linear_segmentation(
        ...     RawPatches(2), batches, examples, num_classes=2, window=4, steps=60, warmup_steps=5, learning_rate=0.1
        ... )
        >>> result.numbers["miou"]
        1.0
    """
    size = height_and_width("window", window)
    if not 0 <= warmup_steps < steps:
        raise ValueError(
            f"`warmup_steps` must be 0 or more and below `steps`. Received: warmup_steps={warmup_steps}, steps={steps}."
        )
    keras.utils.set_random_seed(seed)
    head = LinearHead(num_classes, ignore=ignore)
    schedule = keras.optimizers.schedules.CosineDecay(
        _FIRST_RATE, steps - warmup_steps, warmup_target=learning_rate, warmup_steps=warmup_steps
    )
    head.compile(AdamW(schedule, weight_decay=weight_decay, beta_2=0.999))

    tokens_of = patch_token_function(encoder)

    def maps_of(images):
        check_images(images)
        tokens = tokens_of(images)
        return tokens.reshape(len(images), *grid_of(images.shape[1:3], tokens.shape[1]), -1)

    with stopwatch() as seconds:
        progress = keras.utils.Progbar(steps, verbose=verbose)
        taken, losses, batch_size = 0, [], 0
        while taken < steps:
            batches = 0
            for images, labels in itertools.islice(train, steps - taken):
                batch_size = max(batch_size, len(images))
                maps = maps_of(images)
                if not head.built:
                    head.build(maps.shape)
                losses.append(head.train_on_batch(maps, labels, return_dict=True)["loss"])
                batches += 1
                progress.add(1)
            if not batches:
                raise ValueError(f"`train` must yield batches until {steps} steps are taken. Received: {taken}.")
            taken += batches

        def window_logits(windows):
            logits = ops.convert_to_tensor(head.predict_on_batch(maps_of(windows)))
            return ops.convert_to_numpy(resize_bilinear(logits, size))

        stride = (2 * size[0] // 3, 2 * size[1] // 3)
        scores = score_images(
            lambda image: slide(window_logits, image, size, stride), test, num_classes, ignore, verbose
        )
    tail = [float(loss) for loss in losses[-max(1, len(losses) // 10) :]]
    used = {"steps": steps, "warmup_steps": warmup_steps, "batch_size": batch_size, "window": list(size)}
    protocol = {"steps": STEPS, "warmup_steps": WARMUP_STEPS, "batch_size": BATCH_SIZE, "window": [WINDOW, WINDOW]}
    return EvaluationResult(
        protocol="linear_segmentation",
        numbers={**class_numbers(scores, class_names), "train_loss": float(np.nanmean(tail))},
        settings={**used, "learning_rate": learning_rate, "weight_decay": weight_decay},
        data={"classes": num_classes},
        seed=seed,
        seconds=seconds(),
        notes=tuple(
            f"{name} is {value}, {protocol[name]} in the protocol."
            for name, value in used.items()
            if value != protocol[name]
        ),
    )
