"""Runs an exported SavedModel as a function on NumPy arrays, on any backend; TensorFlow is imported when it is used."""

import numpy as np


def load_saved_model(path):
    """Load a SavedModel that maps one batch of float32 images to one tensor.

    Args:
        path: directory that holds `saved_model.pb`.

    Returns:
        A function from (batch, height, width, 3) float32 to the tensor of rank 3 that the model returns, as NumPy.

    Raises:
        ValueError: if the model has no signature from one float32 tensor of rank 4 to one tensor of rank 3.
    """
    import tensorflow as tf

    model = tf.saved_model.load(str(path))
    for signature in model.signatures.values():
        inputs = signature.structured_input_signature[1]
        outputs = [name for name, spec in signature.structured_outputs.items() if spec.shape.rank == 3]
        if len(inputs) != 1 or len(outputs) != 1:
            continue
        ((name, spec),) = inputs.items()
        if spec.dtype == tf.float32 and spec.shape.rank == 4:

            def run(images, model=model, signature=signature, name=name, output=outputs[0]):
                return np.asarray(signature(**{name: tf.constant(images)})[output])

            return run
    raise ValueError(
        f"{path} must have a signature from one float32 tensor (batch, height, width, 3) to one tensor (batch, tokens, "
        f"width); it has the signatures {sorted(model.signatures)}."
    )
