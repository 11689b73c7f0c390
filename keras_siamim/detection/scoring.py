"""Detections of complete splits, in the format of COCO."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_siamim import batch as keys
from keras_siamim.detection.detector import MaskRCNN
from keras_siamim.detection.postprocessing import image_masks
from keras_siamim.evaluation.average_precision import image_detections
from keras_siamim.evaluation.features import num_batches


class ImageDetections(NamedTuple):
    """Detections of one image, the best first.

    Attributes:
        image_id: int. Id of the image.
        boxes: (detections, 4) float32. x1, y1, x2, y2 in pixels of the stored image.
        scores: (detections,) float32, in [0, 1].
        classes: (detections,) int32.
        masks: (detections, height, width) bool, or None.
    """

    image_id: int
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    masks: np.ndarray | None


def detect_images(model: MaskRCNN, batches: Iterable[Mapping[str, Any]], verbose: int = 0) -> Iterator[ImageDetections]:
    """Detect the objects of images, batch by batch.

    Masks are pasted image by image, so that memory does not grow with the number of images.

    Args:
        model: `MaskRCNN`.
        batches: Iterable of dictionaries of `detection_test_batches`. The last batch may be smaller.
        verbose: int. 1 shows a progress bar. Defaults to 0.

    Yields:
        `ImageDetections`, in the order of the images.
    """
    progress = keras.utils.Progbar(num_batches(batches), verbose=verbose, unit_name="batch")
    batch_size = 0
    for batch in batches:
        batch = {name: ops.convert_to_numpy(value) for name, value in batch.items()}
        ids = batch.pop(keys.IMAGE_IDS)
        batch_size = max(batch_size, len(ids))
        # A smaller batch would compile the model again.
        missing = [0] * (batch_size - len(ids))
        padded = {name: np.concatenate([value, value[missing]]) for name, value in batch.items()}
        found = {name: ops.convert_to_numpy(value) for name, value in model.predict_on_batch(padded).items()}
        for row, image_id in enumerate(ids.tolist()):
            kept = slice(int(found["counts"][row]))
            boxes, scores, classes = (found[name][row, kept] for name in ("boxes", "scores", "classes"))
            masks = None
            if model.masks:
                masks = image_masks(found["masks"][row, kept], boxes, *batch[keys.ORIGINAL_SIZES][row].tolist())
            yield ImageDetections(image_id, boxes, scores, classes, masks)
        progress.add(1)


def coco_detections(found: Iterable[ImageDetections], category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return detections in the format of COCO, see `image_detections`.

    Args:
        found: Iterable of `ImageDetections`. Masks are encoded one image after another.
        category_ids: Sequence of ints. Id of each class.

    Example:
        >>> one = ImageDetections(7, np.array([[1, 2, 4, 6]]), np.array([0.5]), np.array([0]), None)
        >>> coco_detections([one], category_ids=[90])
        [{'image_id': 7, 'category_id': 90, 'bbox': [1.0, 2.0, 3.0, 4.0], 'score': 0.5}]
    """
    detections = []
    for image in found:
        detections += image_detections(
            image.image_id, image.boxes, image.scores, image.classes, category_ids, image.masks
        )
    return detections
