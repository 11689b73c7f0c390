"""Graph of an exported segmenter. Needs Keras on TensorFlow."""

from __future__ import annotations

import tensorflow as tf

from keras_siamim.data.label_map_batches import resized_to_fit
from keras_siamim.export.serving import StoredWeights, check_shape
from keras_siamim.segmentation import UPerNet
from keras_siamim.types import PathLike, Tensor


class ServedSegmenter:
    """TensorFlow function of a segmenter for pixels of any size.

    Args:
        model: Float32 `UPerNet`.
        short_side: Integer. Shorter side in pixels to resize images to.

    Attributes:
        function: `tf.function` from `images`, (batch, height, width, 3) uint8, to a dictionary of `label_map`, (batch,
            height, width) int32, and `scores`, (batch, height, width, classes) float32.

    Example:
        >>> from keras_siamim.segmentation import UPerNet
        >>> encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=4, num_heads=2)
        >>> model = UPerNet(encoder, num_classes=3, crop_size=32, auxiliary_width=8)
        >>> ServedSegmenter(model, 32).function(np.zeros((1, 20, 30, 3), "uint8"))["label_map"].shape
        TensorShape([1, 20, 30])
    """

    def __init__(self, model: UPerNet, short_side: int) -> None:
        self.model = model
        self.weights = StoredWeights(model.weights, "float32")

        def segment(images: Tensor) -> dict[str, Tensor]:
            shape = tf.shape(images)
            images = check_shape(images, tf.concat([shape[:3], [3]], 0), "uint8 RGB, without alpha")
            logits = self.sliding_logits(resized_to_fit(images, short_side))
            logits = tf.image.resize(logits, shape[1:3], method="bilinear")
            return {"label_map": tf.argmax(logits, -1, output_type=tf.int32), "scores": tf.nn.softmax(logits)}

        images = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
        self.function = tf.function(segment, input_signature=[images], autograph=False)

    def sliding_logits(self, images: Tensor) -> Tensor:
        """Return the mean logits of overlapping windows, as `UPerNet.sliding_logits` does for one image.

        Args:
            images: (batch, height, width, 3) float32, normalized.

        Returns:
            (batch, height, width, classes) float32.
        """
        window = self.model.crop_size
        size = tf.shape(images)[1:3]
        padded_size = tf.maximum(size, window)
        missing = padded_size - size
        padded = tf.pad(images, [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]])
        rows, columns = (_starts(padded_size[axis], window[axis], 2 * window[axis] // 3) for axis in (0, 1))
        grid = tf.reshape(tf.stack(tf.meshgrid(rows, columns, indexing="ij"), -1), (-1, 2))
        batch, classes = tf.shape(images)[0], self.model.num_classes

        def add(number: Tensor, total: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            start = grid[number]
            cut = tf.slice(padded, [0, start[0], start[1], 0], [-1, *window, -1])
            with self.weights.scope():
                logits = self.model(tf.ensure_shape(cut, (None, *window, 3)), training=False)
            logits = tf.image.resize(logits, window, method="bilinear")
            behind = padded_size - start - window
            around = [[0, 0], [start[0], behind[0]], [start[1], behind[1]], [0, 0]]
            return number + 1, total + tf.pad(logits, around), count + tf.pad(tf.ones((1, *window, 1)), around)

        total = tf.zeros(tf.stack([batch, padded_size[0], padded_size[1], classes]))
        count = tf.zeros(tf.stack([1, padded_size[0], padded_size[1], 1]))
        shapes = [tf.TensorShape([]), tf.TensorShape([None, None, None, classes]), tf.TensorShape([1, None, None, 1])]
        _, total, count = tf.while_loop(
            lambda number, *_: number < tf.shape(grid)[0], add, (0, total, count), shape_invariants=tuple(shapes)
        )
        return (total / count)[:, : size[0], : size[1]]

    def save(self, directory: PathLike) -> None:
        """Write the SavedModel.

        Args:
            directory: String or path. An empty or new directory.
        """
        module = tf.Module(name="siamim")
        module.weights = self.weights.stored
        module.functions = [self.function]
        tf.saved_model.save(module, str(directory), signatures={"serving_default": self.function})


def _starts(size: Tensor, window: int, stride: int) -> Tensor:
    # As `segmentation.windows.window_starts`: the last window is moved back to end at the border.
    count = tf.maximum(size - window + stride - 1, 0) // stride + 1
    return tf.maximum(tf.minimum(tf.range(count) * stride, size - window), 0)
