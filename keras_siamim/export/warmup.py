"""What a server reads beside a model: requests to warm up with, and how to batch. Needs TensorFlow.

TensorFlow Serving's messages are written by their field numbers (`prediction_log.proto`, `predict.proto`,
`model.proto`), so that no package beyond TensorFlow is needed; `TensorProto` is TensorFlow's own.
"""

import numpy as np
import tensorflow as tf

WARMUP_BATCH_SIZES = (1, 4)
MAX_BATCH_SIZE = 64


def _field(number, content):
    """A length-delimited field of a protocol buffer."""
    size, length = len(content), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    length.append(size)
    return bytes([number << 3 | 2]) + bytes(length) + content


def prediction_log(model_name, signature_name, inputs):
    """A serialized `PredictionLog` that holds one `PredictRequest`.

    Args:
        model_name: Name that the model is served under.
        signature_name: Signature.
        inputs: Arrays or tensors by input name.
    """
    model = _field(1, model_name.encode()) + _field(3, signature_name.encode())
    request = _field(1, model)
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, tensor))
    return _field(6, _field(1, request))


def write_warmup_requests(directory, model_name, image_size):
    """Write `assets.extra/tf_serving_warmup_requests` below a version's directory: requests to every signature.

    Args:
        directory: The version's directory.
        model_name: Name that the model is served under.
        image_size: (height, width) of the encoder.
    """
    rng = np.random.default_rng(0)
    extra = directory / "assets.extra"
    extra.mkdir()
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        for batch in WARMUP_BATCH_SIZES:
            images = rng.integers(0, 256, (batch, *image_size, 3), "uint8")
            files = [tf.io.encode_jpeg(image).numpy() for image in images]
            writer.write(prediction_log(model_name, "serving_default", {"images": images}))
            writer.write(prediction_log(model_name, "image_bytes", {"image_bytes": tf.constant(files)}))
        normalized = rng.normal(size=(1, *image_size, 3)).astype("float32")
        writer.write(prediction_log(model_name, "tokens", {"images": normalized}))


def batching_parameters():
    """Text of a batching parameters file: a request waits at most 2 ms for others, and batches have few sizes."""
    sizes = [2**power for power in range(MAX_BATCH_SIZE.bit_length())]
    lines = [
        f"max_batch_size {{ value: {MAX_BATCH_SIZE} }}",
        "batch_timeout_micros { value: 2000 }",
        "max_enqueued_batches { value: 100 }",
        *(f"allowed_batch_sizes: {size}" for size in sizes),
    ]
    return "\n".join(lines) + "\n"
