"""Files for TensorFlow Serving: warm-up requests and batching parameters. Needs TensorFlow.

Messages of TensorFlow Serving are encoded by their field numbers (`prediction_log.proto`, `predict.proto`,
`model.proto`), which avoids a dependency on `tensorflow-serving-api`. `TensorProto` belongs to TensorFlow.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_siamim.types import ArrayLike

WARMUP_BATCH_SIZES = (1, 4)
MAX_BATCH_SIZE = 64


def _field(number, content):
    """Encode a length-delimited field of a protocol buffer."""
    size, length = len(content), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    length.append(size)
    return bytes([number << 3 | 2]) + bytes(length) + content


def prediction_log(model_name: str, signature_name: str, inputs: dict[str, ArrayLike]) -> bytes:
    """Return a serialized `PredictionLog` with one `PredictRequest`.

    Args:
        model_name: String. Name of the served model.
        signature_name: String. Name of the signature.
        inputs: Dictionary of arrays or tensors by input name.

    Example:
        >>> b"digits" in prediction_log("digits", "tokens", {"images": np.zeros((1, 2, 2, 3))})
        True
    """
    model = _field(1, model_name.encode()) + _field(3, signature_name.encode())
    request = _field(1, model)
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, tensor))
    return _field(6, _field(1, request))


def write_warmup_requests(directory: Path, model_name: str, image_size: tuple[int, int]) -> None:
    """Write requests to every signature as `assets.extra/tf_serving_warmup_requests`.

    Args:
        directory: `Path`. Directory of the version.
        model_name: String. Name of the served model.
        image_size: (height, width) of the encoder in pixels.
    """
    rng = np.random.default_rng(0)
    requests: list[tuple[str, dict[str, ArrayLike]]] = []
    for batch in WARMUP_BATCH_SIZES:
        images = rng.integers(0, 256, (batch, *image_size, 3), "uint8")
        files = [tf.io.encode_jpeg(image).numpy() for image in images]
        requests.append(("serving_default", {"images": images}))
        requests.append(("image_bytes", {"image_bytes": tf.constant(files)}))
    normalized = rng.normal(size=(1, *image_size, 3)).astype("float32")
    write_warmup(directory, model_name, [*requests, ("tokens", {"images": normalized})])


def write_warmup(directory: Path, model_name: str, requests: Sequence[tuple[str, dict[str, ArrayLike]]]) -> None:
    """Write requests as `assets.extra/tf_serving_warmup_requests`.

    Args:
        directory: `Path`. Directory of the version.
        model_name: String. Name of the served model.
        requests: Sequence of tuples: the name of a signature, and its inputs by name.
    """
    extra = directory / "assets.extra"
    extra.mkdir()
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        for signature_name, inputs in requests:
            writer.write(prediction_log(model_name, signature_name, inputs))


def batching_parameters() -> str:
    """Return the text of a batching parameters file.

    Example:
        >>> batching_parameters().splitlines()[0]
        'max_batch_size { value: 64 }'
    """
    # Powers of two: the server pads a batch to the next of few sizes.
    sizes = [2**power for power in range(MAX_BATCH_SIZE.bit_length())]
    lines = [
        f"max_batch_size {{ value: {MAX_BATCH_SIZE} }}",
        "batch_timeout_micros { value: 2000 }",  # a request waits 2 ms for others at most
        "max_enqueued_batches { value: 100 }",
        *(f"allowed_batch_sizes: {size}" for size in sizes),
    ]
    return "\n".join(lines) + "\n"
