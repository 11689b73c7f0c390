"""Graph of an exported detector. Needs Keras on TensorFlow."""

from __future__ import annotations

import tensorflow as tf

from keras_siamim import batch as keys
from keras_siamim.data.images.squares import fit_square
from keras_siamim.detection import MaskRCNN
from keras_siamim.export.serving import StoredWeights, check_shape
from keras_siamim.ops.masks import paste_masks
from keras_siamim.types import PathLike, Tensor


class ServedDetector:
    """TensorFlow functions of a detector for pixels of any size.

    Args:
        model: Float32 `MaskRCNN` for square images.

    Attributes:
        signatures: Dictionary of `tf.function` by signature name, see `export_detector`.

    Example:
        >>> from keras_siamim.detection import DetectorSettings, MaskRCNN
        >>> encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=4, num_heads=2)
        >>> settings = DetectorSettings(pyramid_width=8, head_width=8, dense_width=8, post_nms_test=20)
        >>> model = MaskRCNN(encoder, num_classes=3, image_size=32, settings=settings, window_size=2)
        >>> list(ServedDetector(model).signatures)
        ['serving_default', 'with_threshold', 'image_masks']
    """

    def __init__(self, model: MaskRCNN) -> None:
        self.model = model
        self.weights = StoredWeights(model.weights, "float32")
        images = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
        thresholds = tf.TensorSpec((None,), tf.float32, name="score_threshold")

        def with_threshold(images: Tensor, score_threshold: Tensor) -> dict[str, Tensor]:
            return self.detections(images, score_threshold)

        self.signatures = {
            "serving_default": tf.function(self.detections, input_signature=[images], autograph=False),
            "with_threshold": tf.function(with_threshold, input_signature=[images, thresholds], autograph=False),
        }
        if model.masks:
            self.signatures["image_masks"] = tf.function(self.image_masks, input_signature=[images], autograph=False)

    def detections(self, images: Tensor, score_threshold: Tensor | None = None) -> dict[str, Tensor]:
        """Return the detections of images.

        Args:
            images: (batch, height, width, 3) uint8.
            score_threshold: (batch,) float32, or None for that of the detector.

        Returns:
            Dictionary of `boxes`, `scores`, `classes`, `counts` and, with masks, `masks`, see `MaskRCNN`.
        """
        shape = tf.shape(images)
        images = check_shape(images, tf.concat([shape[:3], [3]], 0), "uint8 RGB, without alpha")
        side = self.model.image_size[0]
        specification = (tf.TensorSpec((side, side, 3), tf.float32), tf.TensorSpec((2,), tf.int32))
        fitted, sizes = tf.map_fn(lambda image: fit_square(image, side), images, fn_output_signature=specification)
        batch = {
            keys.IMAGES: fitted,
            keys.SIZES: sizes,
            keys.ORIGINAL_SIZES: tf.broadcast_to(shape[1:3], (shape[0], 2)),
        }
        if score_threshold is not None:
            batch[keys.SCORE_THRESHOLD] = score_threshold
        with self.weights.scope():
            return dict(self.model(batch, training=False))

    def image_masks(self, images: Tensor) -> dict[str, Tensor]:
        """Return the detections of images, with masks of the size of the images.

        Args:
            images: (batch, height, width, 3) uint8.

        Returns:
            Dictionary as that of `detections`, with `masks` (batch, detections, height, width) uint8, 0 or 1.
        """
        found = self.detections(images)
        height, width = tf.unstack(tf.shape(images)[1:3])

        def paste(values: tuple[Tensor, Tensor]) -> Tensor:
            return tf.cast(paste_masks(*values, height, width) >= 0.5, tf.uint8)

        specification = tf.TensorSpec((None, None, None), tf.uint8)
        masks = tf.map_fn(paste, (found["masks"], found["boxes"]), fn_output_signature=specification)
        return {**found, "masks": masks}

    def save(self, directory: PathLike) -> None:
        """Write the SavedModel.

        Args:
            directory: String or path. An empty or new directory.
        """
        module = tf.Module(name="siamim")
        module.weights = self.weights.stored
        module.functions = self.signatures
        tf.saved_model.save(module, str(directory), signatures=self.signatures)
