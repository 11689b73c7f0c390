"""The only room that knows which framework computes: one small file each, with the same functions.

`MomentumTrainStep`: mixin of `keras.Model` whose `train_step` moves the target before Keras's own step.
`mean_over_replicas(x)`: mean of a tensor over the replicas that share a global batch, differentiable.
`concat_over_replicas(x)`: the tensors `x` of all replicas joined along axis 0; no gradient flows.
`replica_count()`: how many replicas share it. `replica_rank()`: the place of this one among them, from 0.
"""

import keras

if keras.config.backend() == "tensorflow":
    from keras_siamim._backend.tensorflow import (
        MomentumTrainStep,
        concat_over_replicas,
        mean_over_replicas,
        replica_count,
        replica_rank,
    )
elif keras.config.backend() == "jax":
    from keras_siamim._backend.jax import (
        MomentumTrainStep,
        concat_over_replicas,
        mean_over_replicas,
        replica_count,
        replica_rank,
    )
elif keras.config.backend() == "torch":
    from keras_siamim._backend.torch import (
        MomentumTrainStep,
        concat_over_replicas,
        mean_over_replicas,
        replica_count,
        replica_rank,
    )
else:
    raise ImportError(
        f"keras_siamim trains on the backends tensorflow, jax and torch. Received: {keras.config.backend()!r}."
    )

__all__ = ["MomentumTrainStep", "concat_over_replicas", "mean_over_replicas", "replica_count", "replica_rank"]
