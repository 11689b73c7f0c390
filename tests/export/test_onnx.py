import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim.export import export_onnx
from tests.export.test_saved_model import make_encoder


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # raised inside PyTorch's exporter
def test_onnxruntime_computes_the_tokens_of_keras_at_every_batch_size(tmp_path, rng):
    encoder, path = make_encoder(), tmp_path / "encoder.onnx"
    if keras.config.backend() != "torch":
        with pytest.raises(ValueError, match="must be 'torch'"):
            export_onnx(encoder, path)
        assert not path.exists()
        return
    import onnxruntime

    export_onnx(encoder, path)
    session = onnxruntime.InferenceSession(path)
    images = rng.normal(size=(5, 32, 48, 3)).astype("float32")
    expected = ops.convert_to_numpy(encoder(images))
    for count in (1, 3, 5):
        (tokens,) = session.run(["tokens"], {"images": images[:count]})
        np.testing.assert_allclose(tokens, expected[:count], atol=1e-4 * np.abs(expected).max())
    with pytest.raises(ValueError, match="`path` must end in .onnx and not exist"):
        export_onnx(encoder, path)
