"""AdamW whose learning rate falls from the head down to the patch embedding, for fine-tuning."""

import re

import keras

from keras_siamim.optimizers.adamw import AdamW

_BLOCK = re.compile(r"(?:^|/)block_(\d+)/")
_FIRST = re.compile(r"(?:^|/)(class_token|position_embedding|patch_embedding)/")
_UNDECAYED = re.compile(r"(?:^|/)(class_token|position_embedding)/")


@keras.saving.register_keras_serializable(package="keras_siamim")
class LayerDecayAdamW(AdamW):
    """AdamW with layer-wise learning-rate decay (BEiT, arXiv 2106.08254, appendix; arXiv 2111.06377, table 9).

    A weight of block i of `depth` learns at `layer_decay ** (depth - i)` of the rate, patch embedding, class token and
    learned positions at `layer_decay ** (depth + 1)`, all others (final norm, head) at the whole rate. Weight decay,
    which is part of the step, shrinks with the rate; biases, norms, other weights of one dimension, the class token and
    learned positions do not decay.

    Which weight is which is told by `layers`, or read from its path (`block_3/`, `class_token/`, `patch_embedding/`),
    so that nothing is forgotten when a compiled model is saved and loaded.

    Args:
        learning_rate: float or `keras.optimizers.schedules.LearningRateSchedule`, of the head.
        depth: number of blocks of the encoder, 1 or more.
        layer_decay: factor from one layer to the one below, above 0 and up to 1.
        weight_decay: decay per step is rate * weight_decay * weight.
        beta_1: decay of the first moment.
        beta_2: decay of the second moment.
        layers: for each trainable weight of the model, in order, its layer: 0 for what comes before the blocks, i + 1
            for block i, None for what learns at the whole rate. Defaults to what the paths of a `ViTEncoder` tell.
        **kwargs: as for `keras_siamim.AdamW`.

    Raises:
        ValueError: if `depth` or `layer_decay` is out of its range.
    """

    def __init__(
        self,
        learning_rate=1e-3,
        depth=12,
        layer_decay=0.65,
        weight_decay=0.05,
        beta_1=0.9,
        beta_2=0.999,
        layers=None,
        name="layer_decay_adamw",
        **kwargs,
    ):
        if depth < 1:
            raise ValueError(f"`depth` must be 1 or more; received {depth}.")
        if not 0 < layer_decay <= 1:
            raise ValueError(f"`layer_decay` must be above 0 and up to 1; received {layer_decay}.")
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            beta_1=beta_1,
            beta_2=beta_2,
            name=name,
            **kwargs,
        )
        self.depth = depth
        self.layer_decay = layer_decay
        self.layers = None if layers is None else list(layers)

    def learning_rate_scale(self, variable) -> float:
        """Return the factor, above 0 and up to 1, by which the learning rate of `variable` is multiplied."""
        if self.layers is not None:
            layer = self.layers[self._get_variable_index(variable)]
            return 1.0 if layer is None else self.layer_decay ** (self.depth + 1 - layer)
        path = self._path(variable)
        block = _BLOCK.search(path)
        if block:
            return self.layer_decay ** (self.depth - int(block[1]))
        return self.layer_decay ** (self.depth + 1) if _FIRST.search(path) else 1.0

    def _path(self, variable):
        """Path of a Keras variable, or of the one that a TensorFlow variable belongs to."""
        if not hasattr(variable, "path"):
            variable = self._trainable_variables[self._get_variable_index(variable)]
        return variable.path

    def _use_weight_decay(self, variable):
        return not _UNDECAYED.search(self._path(variable)) and super()._use_weight_decay(variable)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "depth": self.depth, "layer_decay": self.layer_decay, "layers": self.layers}
