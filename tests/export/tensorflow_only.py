"""Load an export by both of TensorFlow's loaders, without `keras_siamim`, and compare the outputs.

    python tensorflow_only.py VERSION_DIRECTORY EXPECTED.npz

`EXPECTED.npz` holds `images` (uint8) and the outputs of Keras by name.
"""

import sys

import numpy as np
import tensorflow as tf


def error(outputs, expected, count):
    return max(np.abs(outputs[name] - expected[name][:count]).max() / np.abs(expected[name]).max() for name in outputs)


def tf2(path, images):
    signatures = tf.saved_model.load(path).signatures
    for name in signatures:
        print(f"signature {name}")
        for argument, spec in signatures[name].structured_input_signature[1].items():
            print(f"  input  {argument}: {spec.dtype.name} {spec.shape}")
        for output, spec in signatures[name].structured_outputs.items():
            print(f"  output {output}: {spec.dtype.name} {spec.shape}")
    return lambda count: signatures["serving_default"](images=tf.constant(images[:count]))


def tf1(path, images):
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], path)
    signature = meta_graph.signature_def["serving_default"]
    fetches = {name: tensor.name for name, tensor in signature.outputs.items()}
    return lambda count: session.run(fetches, {signature.inputs["images"].name: images[:count]})


def main(path, expected_file):
    sys.modules["keras_siamim"] = None  # any import of it fails from here on
    expected = dict(np.load(expected_file))
    images = expected.pop("images")
    for title, load in (("TF2 loader", tf2), ("TF1 session loader", tf1)):
        run = load(path, images)
        for count in (1, 3, 64):
            outputs = {name: np.asarray(value) for name, value in run(count).items()}
            assert set(outputs) == set(expected), sorted(outputs)
            difference = error(outputs, expected, count)
            print(f"{title}, batch {count}: {len(outputs)} outputs, largest difference {difference:.1e}")
            assert difference <= 1e-4
    print("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
