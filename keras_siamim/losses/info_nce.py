"""InfoNCE, the contrastive loss of MoCo v3."""

import keras
from keras import ops

from keras_siamim._backend import concat_over_replicas, replica_rank
from keras_siamim.losses.base import Loss
from keras_siamim.types import Tensor


def info_nce(queries: Tensor, keys: Tensor, temperature: float = 0.2) -> Tensor:
    """Return the InfoNCE loss as MoCo v3 uses it (arXiv 2104.02057, equation 1 and algorithm 1).

    The loss is `2 * temperature * crossentropy(cosine similarity / temperature)`. The positive of query n is key n; all
    other keys of the global batch are negatives. Memory grows with the number of queries times that of keys.

    Args:
        queries: (..., width), any float dtype.
        keys: (..., width), same shape. No gradient flows through them.
        temperature: float. Divisor of the similarities. Defaults to 0.2.

    Returns:
        float32 scalar, the mean over the queries of this replica.

    Example:
        >>> from keras_siamim.losses import info_nce
        >>> x = np.eye(2, dtype="float32")
        >>> round(float(info_nce(x, x, temperature=1.0)), 4)
        0.6265
    """
    queries, keys = (
        ops.normalize(ops.cast(ops.reshape(x, (-1, x.shape[-1])), "float32"), axis=-1, epsilon=1e-12)
        for x in (queries, keys)
    )
    count = ops.shape(queries)[0]
    similarity = ops.matmul(queries, ops.transpose(concat_over_replicas(keys))) / temperature
    positives = ops.arange(count, dtype="int32") + replica_rank() * count
    crossentropy = ops.logsumexp(similarity, axis=1) - ops.take_along_axis(similarity, positives[:, None], axis=1)[:, 0]
    return 2.0 * temperature * ops.mean(crossentropy)


@keras.saving.register_keras_serializable(package="keras_siamim")
class InfoNCE(Loss):
    """InfoNCE over tokens or vectors, see `info_nce`.

    Args:
        temperature: float above 0. Divisor of the cosine similarities. Defaults to 0.2.

    Raises:
        ValueError: If `temperature` is not above 0.

    Example:
        >>> x = np.eye(2, dtype="float32")
        >>> round(float(InfoNCE(temperature=1.0)(x, x)["loss"]), 4)
        0.6265
    """

    def __init__(self, temperature: float = 0.2):
        if not temperature > 0:
            raise ValueError(f"`temperature` must be above 0. Received: {temperature}.")
        self.temperature = temperature

    def __call__(self, prediction, target):
        return {"loss": info_nce(prediction, target, self.temperature)}

    def get_config(self):
        return {"temperature": self.temperature}
