"""Graph of an exported model. Needs Keras on TensorFlow."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_siamim.data.images import preprocessing
from keras_siamim.export.outputs import named_outputs
from keras_siamim.types import PathLike, Tensor


class StoredWeights:
    """Copies of weights as TensorFlow variables, the only ones that are saved.

    Args:
        weights: Keras variables.
        dtype: String. Dtype of the stored floats. Computation is in the dtype of the weights.

    Attributes:
        stored: List of `tf.Variable`.
    """

    def __init__(self, weights: Sequence[keras.Variable], dtype: str) -> None:
        self._weights = list(weights)
        self.stored = [
            tf.Variable(_cast_floats(weight.value, dtype), trainable=False, name=weight.path.replace("/", "."))
            for weight in self._weights
        ]

    def scope(self) -> keras.StatelessScope:
        """Return a scope in which Keras computes with the stored weights."""
        pairs = zip(self._weights, self.stored, strict=True)
        return keras.StatelessScope(state_mapping=[(weight, tf.cast(stored, weight.dtype)) for weight, stored in pairs])


class ServedModel:
    """TensorFlow functions of an encoder and an optional head, for bytes, pixels and normalized images.

    The model copies the weights into its own variables and saves only those. Loading it does not need Keras.

    Args:
        encoder: Float32 Keras model from images (batch, height, width, 3) to tokens (batch, 1 + patches, width).
        head: Keras layer from pooled features to logits, or None.
        pooling: `"mean"` or `"token"`.
        image_size: (height, width) of the encoder in pixels.
        frame: (height, width) in pixels that images are resized to cover, or None, see
            `preprocessing.resize_and_center`.
        weights_dtype: String. Dtype of the stored weights. Computation is in float32.

    Attributes:
        signatures: Dictionary of `tf.function` by signature name.

    Example:
        >>> encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=1, num_heads=1)
        >>> served = ServedModel(encoder, None, "mean", (16, 16), None, "float32")
        >>> list(served.signatures)
        ['serving_default', 'image_bytes', 'tokens']
    """

    def __init__(
        self,
        encoder: keras.Model,
        head: keras.layers.Layer | None,
        pooling: str,
        image_size: tuple[int, int],
        frame: tuple[int, int] | None,
        weights_dtype: str,
    ) -> None:
        self._networks = encoder, head, pooling
        weights = [*encoder.weights, *(head.weights if head is not None else [])]
        self._weights = StoredWeights(weights, weights_dtype)
        pixels = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
        normalized = tf.TensorSpec((None, *image_size, 3), tf.float32, name="images")
        files = tf.TensorSpec((None,), tf.string, name="image_bytes")

        def from_pixels(images):
            images = check_shape(images, tf.concat([tf.shape(images)[:3], [3]], 0), "uint8 RGB, without alpha")
            return self.outputs(preprocessing.resize_and_center(images, image_size, frame))

        def from_bytes(image_bytes):
            return self.outputs(preprocessing.decode_batch(image_bytes, image_size, frame))

        def tokens(images):
            shape = tf.concat([tf.shape(images)[:1], [*image_size, 3]], 0)
            return self._tokens(check_shape(images, shape, f"of {image_size[0]} x {image_size[1]} pixels, normalized"))

        self.signatures: dict[str, Callable] = {
            "serving_default": tf.function(from_pixels, input_signature=[pixels], autograph=False),
            "image_bytes": tf.function(from_bytes, input_signature=[files], autograph=False),
            "tokens": tf.function(tokens, input_signature=[normalized], autograph=False),
        }

    def outputs(self, pixels: Tensor) -> dict[str, Tensor]:
        """Compute all outputs for pixels.

        Args:
            pixels: (batch, *image_size, 3) uint8.

        Returns:
            Dictionary of float32 tensors by output name, see `named_outputs`.
        """
        with self._weights.scope():
            return named_outputs(*self._networks, preprocessing.normalize(pixels))

    def _tokens(self, images):
        with self._weights.scope():
            outputs = named_outputs(*self._networks, images)
        if "class_token" not in outputs:
            return {"tokens": outputs["patch_tokens"]}
        return {"tokens": tf.concat([outputs["class_token"][:, None], outputs["patch_tokens"]], axis=1)}

    def save(self, directory: PathLike) -> None:
        """Write the SavedModel.

        Args:
            directory: String or path. An empty or new directory.
        """
        module = tf.Module(name="siamim")
        module.weights = self._weights.stored
        module.functions = self.signatures
        tf.saved_model.save(module, str(directory), signatures=self.signatures)


def check_shape(images: Tensor, shape: Tensor, rule: str) -> Tensor:
    """Check the shape of images at run time.

    Args:
        images: Tensor of images.
        shape: 1D int32 tensor. The required shape.
        rule: String. Requirement for the error message.

    Returns:
        `images`.

    Raises:
        tf.errors.InvalidArgumentError: If the shape differs.

    Example:
        >>> tuple(check_shape(np.zeros((1, 4, 4, 3)), [1, 4, 4, 3], "of 4 x 4 pixels").shape)
        (1, 4, 4, 3)
    """
    # A signature does not enforce its shape at run time. All sides are compared at once: for a comparison of one side,
    # TensorFlow would use the signature's value instead of the actual one.
    correct = tf.reduce_all(tf.equal(tf.shape(images), shape))
    check = tf.debugging.Assert(correct, [f"`images` must be {rule}. Received the shape", tf.shape(images)])
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(images)


def _cast_floats(value, dtype):
    return tf.cast(value, dtype) if value.dtype.is_floating else tf.convert_to_tensor(value)


def run_signature(directory: PathLike, inputs: tuple[str, str, np.ndarray]) -> dict[str, np.ndarray]:
    """Load a SavedModel and run one of its signatures.

    Args:
        directory: String or path. A SavedModel.
        inputs: Tuple (signature, argument, value).

    Returns:
        Dictionary of arrays by output name.
    """
    signature, argument, value = inputs
    outputs = tf.saved_model.load(str(directory)).signatures[signature](**{argument: tf.constant(value)})
    return {name: tensor.numpy() for name, tensor in outputs.items()}
