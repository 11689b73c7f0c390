"""AdamW whose learning rate falls from the head down to the patch embedding, for fine-tuning."""

from __future__ import annotations

import re

import keras

from keras_siamim.optimizers.adamw import AdamW
from keras_siamim.optimizers.base import Variable

_BLOCK = re.compile(r"(?:^|/)block_(\d+)/")
_FIRST = re.compile(r"(?:^|/)(class_token|position_embedding|patch_embedding)/")
_UNDECAYED = re.compile(r"(?:^|/)(class_token|position_embedding)/")


@keras.saving.register_keras_serializable(package="keras_siamim")
class LayerDecayAdamW(AdamW):
    """AdamW with layer-wise learning-rate decay (BEiT, arXiv 2106.08254, appendix; arXiv 2111.06377, table 9).

    A weight of block i of `depth` learns at `layer_decay ** (depth - i)` times the rate. Patch embedding, class token
    and learned positions learn at `layer_decay ** (depth + 1)` times the rate, all others (final norm, head) at the
    rate itself. Weight decay shrinks with the rate. Biases, norms, other vectors and, by default, the class token and
    learned positions do not decay.

    `layers` assigns a layer to each weight. Without it, the paths of a `ViTEncoder`'s weights do (`block_3/`,
    `class_token/`, `patch_embedding/`). Both survive saving and loading of a compiled model.

    Args:
        learning_rate: float or `keras.optimizers.schedules.LearningRateSchedule`, of the head. Defaults to 1e-3.
        depth: int, 1 or more. Number of blocks of the encoder. Defaults to 12.
        layer_decay: float in (0, 1]. Factor from one layer to the one below. Defaults to 0.65.
        weight_decay: float. Decay per step is rate * weight_decay * weight. Defaults to 0.05.
        beta_1: float. Decay of the first moment. Defaults to 0.9.
        beta_2: float. Decay of the second moment. Defaults to 0.999.
        layers: list with one entry per trainable weight of the model, in order: 0 for what comes before the blocks,
            i + 1 for block i, None for the full rate. Defaults to the layers that the paths name.
        decay_tokens: bool. Whether weight decay applies to the class token and learned positions, as in mmsegmentation.
            Defaults to False.
        name: str. Name of the optimizer.
        **kwargs: Arguments of `keras_siamim.AdamW`.

    Raises:
        ValueError: If `depth` or `layer_decay` is out of its range.

    Example:
        >>> from keras_siamim.optimizers import LayerDecayAdamW
        >>> LayerDecayAdamW(1e-3, depth=12, layer_decay=0.65).layer_decay
        0.65
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 1e-3,
        depth: int = 12,
        layer_decay: float = 0.65,
        weight_decay: float = 0.05,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        layers: list[int | None] | None = None,
        decay_tokens: bool = False,
        name: str = "layer_decay_adamw",
        **kwargs,
    ):
        if depth < 1:
            raise ValueError(f"`depth` must be 1 or more. Received: {depth}.")
        if not 0 < layer_decay <= 1:
            raise ValueError(f"`layer_decay` must be in (0, 1]. Received: {layer_decay}.")
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
        self.decay_tokens = decay_tokens

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        # `update` may receive TensorFlow variables, which have no path of Keras's.
        self.paths = tuple(variable.path for variable in variables)

    def learning_rate_scale(self, variable: Variable) -> float:
        """Return the factor in (0, 1] by which the learning rate of a variable is multiplied."""
        layer = self._layer(self.index_of(variable))
        return 1.0 if layer is None else self.layer_decay ** (self.depth + 1 - layer)

    def decays(self, variable: Variable) -> bool:
        kept = not self.decay_tokens and _UNDECAYED.search(self.paths[self.index_of(variable)])
        return not kept and super().decays(variable)

    def _layer(self, index):
        if self.layers is not None:
            return self.layers[index]
        block = _BLOCK.search(self.paths[index])
        if block:
            return int(block[1]) + 1
        return 0 if _FIRST.search(self.paths[index]) else None

    def get_config(self):
        return {
            **super().get_config(),
            "depth": self.depth,
            "layer_decay": self.layer_decay,
            "layers": self.layers,
            "decay_tokens": self.decay_tokens,
        }
