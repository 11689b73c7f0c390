"""ONNX, by PyTorch's exporter: of Keras's backends the one whose graph onnxruntime takes at every batch size."""

from pathlib import Path

import keras

from keras_siamim.export.outputs import in_float32, parts


def export_onnx(model, path):
    """Write an encoder as an ONNX file. Needs Keras on PyTorch, and `onnx` and `onnxscript`.

    Args:
        model: A `ViTEncoder`, or an objective, whose encoder is taken.
        path: The file to write, `.onnx`; not overwritten. Its input `images` is (batch, *encoder.image_shape) float32,
            normalized, its output `tokens` (batch, 1 + patches, width) float32.

    Raises:
        ValueError: On another backend, or if the file exists or is named otherwise.
    """
    if keras.config.backend() != "torch":
        raise ValueError(
            "`export_onnx` needs the PyTorch backend: save the encoder as .keras and run with KERAS_BACKEND=torch. "
            f"Received: {keras.config.backend()}."
        )
    path = Path(path)
    if path.suffix != ".onnx" or path.exists():
        raise ValueError(f"`path` must end in .onnx and not exist yet. Received: {path}.")
    import torch

    encoder = in_float32(parts(model)[0]).eval()
    images = torch.zeros((2, *encoder.image_shape))

    class Tokens(torch.nn.Module):
        """Gives the exporter the name of the one argument."""

        def __init__(self):
            super().__init__()
            self.encoder = encoder

        def forward(self, images):
            return self.encoder(images, training=False)

    torch.onnx.export(
        Tokens().eval(),
        (images,),
        path,
        dynamo=True,
        input_names=["images"],
        output_names=["tokens"],
        dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=2**16)}},
        external_data=False,
        verbose=False,
    )
