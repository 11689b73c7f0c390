"""The graph that is served. Needs TensorFlow, as Keras's backend too."""

import keras
import tensorflow as tf

from keras_siamim.data.images import preprocessing
from keras_siamim.export.outputs import named_outputs


class ServedModel:
    """An encoder, and a head where there is one, as TensorFlow functions of bytes, pixels or normalized images.

    It has variables of its own and saves only those: what Keras holds isn't stored a second time, and nothing of Keras
    is needed to load it.

    Args:
        encoder: A float32 `ViTEncoder` or another Keras model from images (batch, height, width, 3) to tokens.
        head: Pooled features to logits, or None.
        pooling: `"mean"` or `"token"`.
        image_size: (height, width) that the encoder sees.
        frame: See `preprocessing.resize_and_center`.
        weights_dtype: What the weights are stored in; the arithmetic is float32 whichever it is.
    """

    def __init__(self, encoder, head, pooling, image_size, frame, weights_dtype):
        self._networks = encoder, head, pooling
        self._keras_weights = [*encoder.weights, *(head.weights if head is not None else [])]
        self._stored = [
            tf.Variable(_cast_floats(weight.value, weights_dtype), trainable=False, name=weight.path.replace("/", "."))
            for weight in self._keras_weights
        ]
        pixels = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
        normalized = tf.TensorSpec((None, *image_size, 3), tf.float32, name="images")
        files = tf.TensorSpec((None,), tf.string, name="image_bytes")

        def from_pixels(images):
            images = of_shape(images, tf.concat([tf.shape(images)[:3], [3]], 0), "uint8 RGB, without alpha")
            return self.outputs(preprocessing.resize_and_center(images, image_size, frame))

        def from_bytes(image_bytes):
            return self.outputs(preprocessing.decode_batch(image_bytes, image_size, frame))

        def tokens(images):
            shape = tf.concat([tf.shape(images)[:1], [*image_size, 3]], 0)
            return self._tokens(of_shape(images, shape, f"of {image_size[0]} x {image_size[1]} pixels, normalized"))

        self.signatures = {
            "serving_default": tf.function(from_pixels, input_signature=[pixels], autograph=False),
            "image_bytes": tf.function(from_bytes, input_signature=[files], autograph=False),
            "tokens": tf.function(tokens, input_signature=[normalized], autograph=False),
        }

    def outputs(self, pixels):
        """All outputs for (batch, *image_size, 3) uint8."""
        with self._stored_weights():
            return named_outputs(*self._networks, preprocessing.normalize(pixels))

    def _tokens(self, images):
        """All tokens for (batch, *image_size, 3) float32, normalized."""
        with self._stored_weights():
            outputs = named_outputs(*self._networks, images)
        return {"tokens": tf.concat([outputs["class_token"][:, None], outputs["patch_tokens"]], axis=1)}

    def _stored_weights(self):
        """A scope in which Keras computes with the stored weights in place of its own."""
        pairs = zip(self._keras_weights, self._stored, strict=True)
        return keras.StatelessScope(state_mapping=[(ours, tf.cast(stored, ours.dtype)) for ours, stored in pairs])

    def save(self, directory):
        """Write the SavedModel."""
        module = tf.Module(name="siamim")
        module.weights = self._stored
        module.functions = self.signatures
        tf.saved_model.save(module, str(directory), signatures=self.signatures)


def of_shape(images, shape, rule):
    """Check on running that images have a shape, which a signature's own does not ensure."""
    # All sides at once: of a single one, TensorFlow believes what the signature says.
    right = tf.reduce_all(tf.equal(tf.shape(images), shape))
    check = tf.debugging.Assert(right, [f"`images` must be {rule}. Received the shape", tf.shape(images)])
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(images)


def _cast_floats(value, dtype):
    return tf.cast(value, dtype) if value.dtype.is_floating else tf.convert_to_tensor(value)


def run_signature(directory, inputs):
    """Load a SavedModel and run a signature: its outputs as NumPy arrays by name.

    Args:
        directory: A SavedModel.
        inputs: (signature, argument, value).
    """
    signature, argument, value = inputs
    outputs = tf.saved_model.load(str(directory)).signatures[signature](**{argument: tf.constant(value)})
    return {name: tensor.numpy() for name, tensor in outputs.items()}
