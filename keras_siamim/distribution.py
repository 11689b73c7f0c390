"""Distribution of a training run over devices and machines, by the backend's own strategies.

    distribution = keras_siamim.distribution.set_up()
    batches = training_batches(
        source, views, masking, batch_size=distribution.worker_batch_size(4096),
        workers=distribution.workers, worker=distribution.worker,
    )
    with distribution.scope():
        model = build_and_compile()
        model.fit(distribution.feed(batches), ...)

Training is synchronous over one global batch: token BatchNorm, UniGrad's correlation and MoCo v3's keys span all
replicas. A step leaves the same weights as on one device with the same batch.
"""

import numbers

from keras_siamim._backend import Distribution
from keras_siamim._backend import set_up as _set_up

# Tensor parallelism of a transformer block over the mesh axis "model" (Megatron-LM, arXiv 1909.08053, section 3). Of
# two successive matrices, the first is split by columns and the second by rows: only the sum after the second crosses
# devices. All other weights are replicated.
BLOCK_LAYOUT = {
    r".*attention/qkv/kernel": (None, "model"),
    r".*attention/qkv/bias": ("model",),
    r".*attention/projection/kernel": ("model", None),
    r".*mlp/expand/kernel": (None, "model"),
    r".*mlp/expand/bias": ("model",),
    r".*mlp/reduce/kernel": ("model", None),
}

__all__ = ["BLOCK_LAYOUT", "Distribution", "set_up"]


def set_up(devices: int | None = None, model_parallel: int = 1) -> Distribution:
    """Find the available devices and join the other processes of the run. Call it before any other use of the backend.

    TensorFlow uses all GPUs (or logical CPUs) of one machine, the machines of `TF_CONFIG`, or the TPU of `TPU_NAME`.
    JAX uses all devices; `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` describe several
    processes. PyTorch uses one device per process; `torchrun` starts the processes.

    Args:
        devices: int, 1 or more. Number of devices to use. Defaults to all.
        model_parallel: int, 1 or more. Number of devices that share one copy of the model, split as in `BLOCK_LAYOUT`;
            it must divide the widths of the blocks. For models too large for one device (ViT-Large and Huge); JAX only.
            Defaults to 1.

    Returns:
        `Distribution` with `scope`, `feed`, `replicas`, `workers`, `worker` and `worker_batch_size`.

    Raises:
        ValueError: If there are fewer devices, or if the backend does not support `model_parallel`.

    Example:
        >>> from keras_siamim.distribution import set_up
        >>> set_up(devices=1).worker_batch_size(256)
        256
    """
    for name, value in (("devices", devices), ("model_parallel", model_parallel)):
        if value is not None and (not isinstance(value, numbers.Integral) or value < 1):
            raise ValueError(f"`{name}` must be a whole number, 1 or more. Received: {value!r}.")
    return _set_up(devices, None if model_parallel == 1 else (model_parallel, BLOCK_LAYOUT))
