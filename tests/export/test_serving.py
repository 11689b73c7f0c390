"""Details of the served graph, on TensorFlow: files, sizes, versions, half precision, warm-up."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_siamim.batch import IMAGENET_MEAN, IMAGENET_STD
from keras_siamim.data.images import preprocessing
from keras_siamim.data.pipeline import evaluation_batches
from keras_siamim.data.sources import folder_source
from keras_siamim.evaluation.classifier import Classifier
from keras_siamim.export import export_saved_model, saved_model
from tests.export.test_saved_model import make_encoder, make_head

pytestmark = pytest.mark.one_backend("tensorflow")

EXIF_ORIENTATION = 274


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """An exported encoder with a head: (encoder, head, Export, loaded signatures)."""
    encoder, head = make_encoder(), make_head()
    export = export_saved_model(encoder, tmp_path_factory.mktemp("exports") / "digits", head=head)
    return encoder, head, export, tf.saved_model.load(str(export.path)).signatures


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def photo():
    """A smooth, asymmetric image (32, 48, 3) uint8."""
    rows, columns = np.mgrid[:32, :48]
    return np.stack([rows * 7, columns * 5, rows * 3 + columns], axis=-1).astype("uint8")


def test_lossless_files_give_the_outputs_of_their_pixels(served, photo):
    *_, signatures = served
    files = [encoded(photo, "PNG"), encoded(photo, "BMP"), encoded(photo, "WEBP", lossless=True)]
    from_files = signatures["image_bytes"](image_bytes=tf.constant(files))
    from_pixels = signatures["serving_default"](images=tf.constant(np.stack([photo] * 3)))
    for name in ("class_token", "patch_tokens", "pooled", "logits", "probabilities"):
        np.testing.assert_allclose(from_files[name], from_pixels[name], atol=1e-6)


def test_lossy_files_are_decoded_as_pillow_does(photo):
    for kind in ("JPEG", "GIF"):
        file = encoded(photo, kind)
        ours = preprocessing.decode(tf.constant(file)).numpy().astype("int32")
        theirs = np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).astype("int32")
        assert np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["big", "little"])
def test_exif_orientation_is_honored(photo, orientation, order):
    from PIL import ImageOps

    exif = Image.Exif()
    exif.endian = {"big": ">", "little": "<"}[order]
    exif[EXIF_ORIENTATION] = orientation
    file = encoded(photo, "JPEG", exif=exif, quality=95)
    ours = preprocessing.decode(tf.constant(file)).numpy().astype("int32")
    theirs = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file)))).astype("int32")
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1


def test_bad_images_are_named_by_their_index(served, photo):
    *_, signatures = served
    files = [encoded(photo, "PNG"), b"no image", encoded(photo, "JPEG"), encoded(photo, "JPEG")[:300], b""]
    with pytest.raises(tf.errors.InvalidArgumentError, match="`image_bytes` must be image files") as caught:
        signatures["image_bytes"](image_bytes=tf.constant(files))
    for part in ("1 is not a JPEG, PNG, GIF, BMP or WebP file", "3 is truncated", "4 is not a JPEG"):
        assert part in str(caught.value)
    assert "0 is" not in str(caught.value)


def pixels_of_images():
    """An "encoder" whose tokens are the pixels of images of 16 x 24, one for the class token in front."""
    images = keras.Input((16, 24, 3))
    patches = keras.layers.Reshape((384, 3))(images)
    return keras.Model(images, keras.layers.ZeroPadding1D((1, 0))(patches))


SIZES = [(16, 24), (17, 25), (256, 259), (40, 33), (9, 200), (200, 9), (1, 1), (18, 27), (19, 28)]


@pytest.mark.parametrize("crop_fraction", [None, 1.0, 0.9])
def test_served_images_equal_evaluated_ones(tmp_path, crop_fraction):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number, (height, width) in enumerate(SIZES):
        pixels = rng.integers(0, 256, (height, width, 4), "uint8")
        Image.fromarray(pixels[..., :3]).save(tmp_path / "images" / f"{number}.jpg")
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number} transparent.png")
        Image.fromarray(pixels[..., 0]).save(tmp_path / "images" / f"{number} gray.png")
    deep = rng.integers(0, 65_536, (30, 30), "uint16")
    Image.fromarray(deep).save(tmp_path / "images" / "16 bits.png")
    source = folder_source(tmp_path / "images")
    files = [tf.io.read_file(source.locate(number)).numpy() for number in range(source.size)]
    export = export_saved_model(pixels_of_images(), tmp_path / "out", image_size=(16, 24), crop_fraction=crop_fraction)
    resize = None if crop_fraction is None else preprocessing.frame_of((16, 24), crop_fraction)
    (evaluated,) = evaluation_batches(source, (16, 24), source.size, resize).as_numpy_iterator()
    served = tf.saved_model.load(str(export.path)).signatures["image_bytes"](image_bytes=tf.constant(files))
    np.testing.assert_allclose(served["patch_tokens"], evaluated["view_1"].reshape(len(files), 384, 3), atol=1e-6)


def test_images_of_any_size_are_resized_and_cropped_in_the_graph(served):
    *_, signatures = served
    large = np.random.default_rng(0).integers(0, 256, (2, 64, 130, 3), "uint8")
    # Covers 32 x 48 at half size, 32 x 65; the middle 48 columns remain.
    resized = np.stack([np.asarray(Image.fromarray(image).resize((65, 32), Image.BICUBIC)) for image in large])
    fitted = preprocessing.resize_and_center(tf.constant(large), (32, 48), (32, 48))
    np.testing.assert_allclose(fitted, resized[:, :, 8:56], atol=1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="without alpha"):
        signatures["serving_default"](images=tf.constant(np.zeros((1, 64, 64, 4), "uint8")))


@pytest.mark.parametrize("shape", [(1, 64, 96, 3), (2, 32, 24, 3), (1, 16, 24, 3), (1, 48, 32, 3), (4, 16, 24, 3)])
def test_tokens_accepts_only_images_of_the_encoders_size(served, shape):
    *_, signatures = served
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be of 32 x 48 pixels, normalized"):
        signatures["tokens"](images=tf.zeros(shape))


def test_tokens_accepts_normalized_images(served):
    encoder, _, _, signatures = served
    images = np.random.default_rng(0).normal(size=(2, 32, 48, 3)).astype("float32")
    tokens = signatures["tokens"](images=tf.constant(images))["tokens"]
    np.testing.assert_allclose(tokens, encoder(images), atol=1e-5)


def test_variables_are_stored_once(served):
    encoder, head, export, _ = served
    parameters = sum(int(np.prod(weight.shape)) for weight in [*encoder.weights, *head.weights])
    stored = (export.path / "variables" / "variables.data-00000-of-00001").stat().st_size
    assert parameters * 4 <= stored <= parameters * 4 * 1.05 + 10_000  # the object graph lies in the same file


def test_half_precision_halves_the_file_and_reports_its_rounding_error(served, tmp_path):
    encoder, head, full, _ = served
    half = export_saved_model(encoder, tmp_path / "half", head=head, weights_dtype="float16")
    assert half.error <= 1e-4 < half.rounding_error < 0.05
    stored = [export.path / "variables" / "variables.data-00000-of-00001" for export in (half, full)]
    parameters = sum(int(np.prod(weight.shape)) for weight in [*encoder.weights, *head.weights])
    assert stored[1].stat().st_size - stored[0].stat().st_size >= parameters * 1.9


def test_versions_are_numbered_and_never_overwritten(tmp_path):
    encoder = make_encoder(depth=1)
    (tmp_path / "7").mkdir()
    (tmp_path / "latest").mkdir()
    assert export_saved_model(encoder, tmp_path).path.name == "8"
    assert export_saved_model(encoder, tmp_path, version=3).path.name == "3"
    with pytest.raises(ValueError, match="`version` must not exist yet. Received: 3"):
        export_saved_model(encoder, tmp_path, version=3)
    assert not list(tmp_path.glob(".*"))  # no staging directory is left


def test_an_encoder_with_a_mixed_policy_is_exported_in_float32(tmp_path):
    encoder = make_encoder(depth=1, dtype="mixed_bfloat16")
    export = export_saved_model(encoder, tmp_path)
    single = make_encoder(depth=1)
    single.set_weights(encoder.get_weights())
    images = np.random.default_rng(0).normal(size=(2, 32, 48, 3)).astype("float32")
    tokens = tf.saved_model.load(str(export.path)).signatures["tokens"](images=tf.constant(images))["tokens"]
    np.testing.assert_allclose(tokens, single(images), atol=1e-5)


def test_warmup_requests_are_serving_s_own_messages(served):
    from tensorflow_serving.apis import prediction_log_pb2

    *_, export, signatures = served
    path = export.path / "assets.extra" / "tf_serving_warmup_requests"
    requested = set()
    for record in tf.data.TFRecordDataset(str(path)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == "digits"
        inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
        signatures[request.model_spec.signature_name](**inputs)
        requested.add(request.model_spec.signature_name)
    assert requested == set(signatures)


def test_the_program_exports_a_file(tmp_path, capsys):
    from keras_siamim.cli import export

    keras.saving.save_model(make_encoder(depth=1), tmp_path / "encoder.keras")
    assert export.main([str(tmp_path), "--to", str(tmp_path / "out"), "--weights-dtype", "bfloat16"]) == 0
    assert "weights in bfloat16" in capsys.readouterr().out
    assert export.main([str(tmp_path), "--to", str(tmp_path / "out"), "--version", "1"]) == 1
    assert "`version` must not exist yet" in capsys.readouterr().err


def test_a_classifier_is_exported_with_its_head(tmp_path):
    classifier = Classifier(make_encoder(depth=1), num_classes=4, pooling="token")
    classifier.build((None, 32, 48, 3))
    classifier.head.kernel.assign(np.random.default_rng(0).normal(size=(24, 4)))
    export = export_saved_model(classifier, tmp_path)
    images = saved_model.probe_images((32, 48))
    outputs = tf.saved_model.load(str(export.path)).signatures["serving_default"](images=tf.constant(images))
    normalized = (images / np.float32(255) - IMAGENET_MEAN) / IMAGENET_STD
    np.testing.assert_allclose(outputs["logits"], classifier(normalized), atol=1e-5)
    np.testing.assert_allclose(np.sum(outputs["probabilities"], axis=1), 1, atol=1e-6)
