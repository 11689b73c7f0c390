"""The contrastive loss."""

import keras
from keras import ops

from keras_siamim._backend import concat_over_replicas, replica_rank
from keras_siamim.losses.base import Loss


def info_nce(queries, keys, temperature=0.2):
    """InfoNCE as MoCo v3 uses it (arXiv 2104.02057, equation 1 and algorithm 1).

    `2 * temperature * crossentropy(cosine similarity / temperature)`, where the right answer for query n is key n and
    the wrong ones are all other keys of the global batch. Memory grows with queries times keys.

    Args:
        queries: (..., width), any float dtype.
        keys: (..., width), same shape; no gradient flows through them.
        temperature: Divisor of the similarities.

    Returns:
        float32 scalar, the mean over the queries of this replica.
    """
    queries, keys = (
        ops.normalize(ops.cast(ops.reshape(x, (-1, x.shape[-1])), "float32"), axis=-1, epsilon=1e-12)
        for x in (queries, keys)
    )
    count = ops.shape(queries)[0]
    similarity = ops.matmul(queries, ops.transpose(concat_over_replicas(keys))) / temperature
    right = ops.arange(count, dtype="int32") + replica_rank() * count
    crossentropy = ops.logsumexp(similarity, axis=1) - ops.take_along_axis(similarity, right[:, None], axis=1)[:, 0]
    return 2.0 * temperature * ops.mean(crossentropy)


@keras.saving.register_keras_serializable(package="keras_siamim")
class InfoNCE(Loss):
    """Contrastive loss over the tokens or vectors it is given, see `info_nce`.

    Args:
        temperature: Divisor of the cosine similarities, above 0.

    Raises:
        ValueError: If `temperature` is not above 0.
    """

    def __init__(self, temperature=0.2):
        if not temperature > 0:
            raise ValueError(f"`temperature` must be above 0. Received: {temperature}.")
        self.temperature = temperature

    def __call__(self, prediction, target):
        """The loss."""
        return {"loss": info_nce(prediction, target, self.temperature)}

    def get_config(self):
        """Constructor arguments."""
        return {"temperature": self.temperature}
