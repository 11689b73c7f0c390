"""ONNX export by PyTorch's exporter."""

from pathlib import Path

import keras

from keras_siamim.export.outputs import components, to_float32
from keras_siamim.types import PathLike


def export_onnx(model: keras.Model, path: PathLike) -> None:
    """Export an encoder as an ONNX file. Needs Keras on PyTorch, `onnx` and `onnxscript`.

    The file has the input `images` (batch, *encoder.image_shape) float32, normalized, and the output `tokens`
    (batch, 1 + patches, width) float32. The batch size is free.

    Args:
        model: `ViTEncoder`, or an objective, whose encoder is exported.
        path: String or path. The new file; it must end in `.onnx`.

    Raises:
        ValueError: If Keras runs on another backend, or if the file exists or has another ending.
    """
    # Of Keras's backends, only PyTorch gives a graph that onnxruntime runs at every batch size.
    if keras.config.backend() != "torch":
        raise ValueError(
            "`keras.config.backend()` must be 'torch': save the encoder as .keras and run with KERAS_BACKEND=torch. "
            f"Received: {keras.config.backend()!r}."
        )
    path = Path(path)
    if path.suffix != ".onnx" or path.exists():
        raise ValueError(f"`path` must end in .onnx and not exist yet. Received: {path}.")
    import torch

    encoder = to_float32(components(model)[0]).eval()
    images = torch.zeros((2, *encoder.image_shape))

    # Without this module, the exporter would not know the argument's name.
    class Tokens(torch.nn.Module):
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
