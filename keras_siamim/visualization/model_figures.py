"""Figures of a model on fixed images: what its encoder has learned, and what it predicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import keras
import numpy as np
from keras import ops
from PIL import Image

from keras_siamim import batch as batch_keys
from keras_siamim._backend import compile_inference
from keras_siamim.objectives import MAE, Objective, SiameseIM
from keras_siamim.visualization.attention import draw_attention
from keras_siamim.visualization.correspondence import draw_correspondence
from keras_siamim.visualization.cross_view import draw_cross_view, retrieval
from keras_siamim.visualization.reconstruction import draw_reconstruction
from keras_siamim.visualization.token_pca import draw_token_pca


class Figure(NamedTuple):
    """Figure and the numbers that belong to it.

    Attributes:
        image: PIL image.
        numbers: Dictionary from names to floats.
    """

    image: Image.Image
    numbers: Mapping[str, float]


def predicts_places(model: keras.Model) -> bool:
    """Return True if an objective predicts target tokens of view 2 from view 1, so that their places can be retrieved.

    Args:
        model: Objective.
    """
    return isinstance(model, SiameseIM) and model.has_target_branch


class ModelFigures:
    """Figures of an objective on one batch; each call of a figure uses the present weights.

    Args:
        model: Objective with an encoder for channels-last images.
        batch: Dictionary of NumPy arrays with the keys of `model.batch_keys`, see `keras_siamim.batch`. All its images
            count in the numbers; the first ones are drawn.
        drawn: Integer. Number of images to draw. Defaults to 4.

    Example:
        >>> encoder = ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2)
        >>> model = SiameseIM(encoder, decoder_width=8, decoder_heads=2, decoder_depth=1)
        >>> views = np.random.default_rng(0).normal(size=(2, 4, 8, 8, 3)).astype("float32")
        >>> batch = {"view_1": views[0], "view_2": views[1], "visible_ids": np.tile([0, 2], (4, 1)).astype("int32")}
        >>> batch["relative_affine"] = np.tile([0, 0, 1, 1], (4, 1)).astype("float32")
        >>> sorted(ModelFigures(model, batch).figures())
        ['attention', 'correspondence', 'prediction', 'token_pca']
    """

    def __init__(self, model: Objective, batch: Mapping[str, np.ndarray], drawn: int = 4):
        self.model = model
        self.encoder = model.encoder
        self.batch = {name: np.asarray(batch[name]) for name in model.batch_keys}
        self.drawn = drawn
        images = self.batch[batch_keys.VIEW_1]
        self.images = images[:drawn]
        # The other image of each pair: the other view, or else the next image.
        self.others = self.batch.get(batch_keys.VIEW_2, np.roll(images, -1, axis=0))[:drawn]
        self._attention = compile_inference(self.encoder, lambda x: self.encoder.class_attention(x))
        self._tokens = compile_inference(self.encoder, self._patch_tokens)
        self._predict = compile_inference(model, lambda batch: model(batch, training=False))

    def figures(self) -> dict[str, Callable[[], Figure]]:
        """Return the functions that draw the figures of this kind of model, by name."""
        found: dict[str, Callable[[], Figure]] = {
            "token_pca": self.token_pca,
            "correspondence": self.correspondence,
        }
        if self.encoder.num_prefix_tokens:
            found["attention"] = self.attention
        if isinstance(self.model, MAE):
            found["reconstruction"] = self.reconstruction
        elif isinstance(self.model, SiameseIM):
            found["prediction"] = self.prediction if predicts_places(self.model) else self.reconstruction_across_views
        return found

    def token_pca(self) -> Figure:
        """Draw the patch tokens as colors, of the images and of the same images at twice the size."""
        size = self.encoder.image_size
        larger = np.asarray(_resized(self.images, (2 * size[0], 2 * size[1])))
        maps = [(self._tokens(images), self._grid(images)) for images in (self.images, larger)]
        return Figure(draw_token_pca(self.images, maps), {})

    def attention(self) -> Figure:
        """Draw the attention of the class token per head."""
        return Figure(draw_attention(self.images, self._attention(self.images), self._grid(self.images)), {})

    def correspondence(self) -> Figure:
        """Draw the nearest patches of two views of an image, and of two different images."""
        half = max(1, len(self.images) // 2)
        first = np.concatenate([self.images[:half], self.images[:half]])
        second = np.concatenate([self.others[:half], np.roll(self.others, -1, axis=0)[:half]])
        tokens_1, tokens_2 = (self._tokens(images) for images in (first, second))
        return Figure(draw_correspondence(first, second, tokens_1, tokens_2, self._grid(first)), {})

    def prediction(self) -> Figure:
        """Draw where predictions find themselves in view 2, and measure how often they find the right place."""
        outputs = self._predict(self.batch)
        prediction, target = (outputs[name].astype("float32") for name in ("prediction", "target"))
        view_2 = self.batch.get(batch_keys.VIEW_2, self.batch[batch_keys.VIEW_1])[: self.drawn]
        image = draw_cross_view(
            self.images,
            view_2,
            self.batch[batch_keys.VISIBLE_IDS][: self.drawn],
            prediction[: self.drawn],
            target[: self.drawn],
            self._grid(self.images),
            self._grid(view_2),
            found := retrieval(prediction, target),
        )
        names = ("retrieval", "retrieval_chance", "image_retrieval", "image_retrieval_chance")
        return Figure(image, dict(zip(names, found, strict=True)))

    def reconstruction(self) -> Figure:
        """Draw the images, their visible patches and the reconstruction of the masked ones."""
        outputs = self._predict(self.batch)
        return self._reconstruction(self.images, outputs["prediction"], outputs["masked"], self.model.normalize_pixels)

    def reconstruction_across_views(self) -> Figure:
        """Draw view 2 and its pixels as predicted from the masked view 1."""
        prediction = self._predict(self.batch)["prediction"][: self.drawn]
        masked = np.ones(prediction.shape[:2], bool)
        normalized = self.model.get_config()["prediction_target"] == "normalized_pixels"
        return self._reconstruction(self.others, prediction, masked, normalized)

    def _reconstruction(self, images, prediction, masked, normalized):
        prediction = prediction[: self.drawn].astype("float32")
        image = draw_reconstruction(images, prediction, masked[: self.drawn], self.encoder.patch_size, normalized)
        return Figure(image, {})

    def _patch_tokens(self, images):
        return self.encoder(images, training=False)[:, self.encoder.num_prefix_tokens :]

    def _grid(self, images):
        return self.encoder.grid_of(images.shape)


def _resized(images, size):
    return ops.convert_to_numpy(ops.image.resize(images, size, interpolation="bicubic", data_format="channels_last"))
