"""What loss objects share."""


class Loss:
    """A loss with its settings, called as `loss(prediction, target)` on two tensors (..., width) of one shape.

    It gives a dictionary of float32 scalars: `loss` and one for every name in `terms`. No gradient flows through the
    target, and replicas share what the loss needs of the global batch.
    """

    terms = ()

    def get_config(self):
        """Constructor arguments."""
        return {}

    @classmethod
    def from_config(cls, config):
        """Inverse of `get_config`."""
        return cls(**config)

    def __repr__(self):
        settings = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({settings})"
