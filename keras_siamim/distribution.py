"""Spread a training run over devices and machines, through the framework's own means.

    distribution = keras_siamim.distribution.set_up()
    batches = training_batches(
        source, views, masking, batch_size=distribution.worker_batch_size(4096),
        workers=distribution.workers, worker=distribution.worker,
    )
    with distribution.scope():
        model = build_and_compile()
        model.fit(distribution.feed(batches), ...)

The batch is global: token BatchNorm, UniGrad's correlation and MoCo v3's keys span all replicas, and the weights after
a step are those of one device with the same batch.
"""

import numbers

from keras_siamim._backend import Distribution
from keras_siamim._backend import set_up as _set_up

# How the matrices of a transformer block are cut over the axis "model" (Megatron-LM, arXiv 1909.08053, section 3): the
# first of each pair by its columns, the second by its rows, so that only the sum behind the second crosses devices.
# Everything else, one-dimensional weights of the rows' outputs included, is whole on every device.
BLOCK_LAYOUT = {
    r".*attention/qkv/kernel": (None, "model"),
    r".*attention/qkv/bias": ("model",),
    r".*attention/projection/kernel": ("model", None),
    r".*mlp/expand/kernel": (None, "model"),
    r".*mlp/expand/bias": ("model",),
    r".*mlp/reduce/kernel": ("model", None),
}

__all__ = ["BLOCK_LAYOUT", "Distribution", "set_up"]


def set_up(devices=None, model_parallel=1):
    """Find out what there is to train on, and join the other processes if there are any. Call it first of all.

    TensorFlow uses all GPUs (or logical CPUs) of one machine, the machines of `TF_CONFIG`, or the TPU of `TPU_NAME`.
    JAX uses all devices; of several processes `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` say
    which. PyTorch uses one device a process, which `torchrun` starts.

    Args:
        devices: How many devices to use, 1 or more; all there are if left out.
        model_parallel: How many devices share one copy of the model, whose blocks are cut as `BLOCK_LAYOUT` says. For
            models too large for one device (ViT-Large and Huge); JAX only. The blocks' widths must be divisible.

    Returns:
        A `Distribution`: `scope`, `feed`, `replicas`, `workers`, `worker` and `worker_batch_size`.

    Raises:
        ValueError: If there are not as many devices, or the backend can't do it.
    """
    for name, value in (("devices", devices), ("model_parallel", model_parallel)):
        if value is not None and (not isinstance(value, numbers.Integral) or value < 1):
            raise ValueError(f"`{name}` must be a whole number of 1 or more. Received: {value!r}.")
    return _set_up(devices, None if model_parallel == 1 else (model_parallel, BLOCK_LAYOUT))
