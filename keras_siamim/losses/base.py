"""Base class of loss objects."""

from typing import Any, Self

from keras_siamim.types import Tensor


class Loss:
    """Loss with its settings, called as `loss(prediction, target)`.

    A call takes two tensors (..., width) of one shape and returns a dictionary of float32 scalars: `loss`, and one per
    name in `terms`. No gradient flows through the target. Replicas exchange what the loss needs of the global batch.

    Attributes:
        terms: Tuple of str. Names of the parts that are reported beside the loss.
    """

    terms: tuple[str, ...] = ()

    def __call__(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the loss and its terms."""
        raise NotImplementedError(f"{type(self).__name__} must implement `__call__`.")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Create a loss from the result of `get_config`."""
        return cls(**config)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({settings})"
