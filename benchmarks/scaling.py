"""Analytical model of pre-training on many accelerators: computation, communication, days and cost.

Training is data parallel: every device holds the complete model and a part of the batch. A device computes at
`peak * share`. A ring all-reduce moves `2 * (devices - 1) / devices` of the reduced bytes over each link. The gradient
reduction overlaps with the backward pass. The reductions of the correlation and of BatchNorm's statistics, two small
messages per layer, do not overlap, so their time is added.
"""

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks import flops
from benchmarks.tables import table
from keras_siamim.backbones import VIT_SIZES

FLOAT32 = 4
IMAGENET = 1_281_167


class Accelerator(NamedTuple):
    """Accelerator with its links.

    Attributes:
        name: Name in the table.
        peak: Dense bfloat16 FLOP/s.
        bandwidth: Bytes/s out of one device, within a machine.
        network: Bytes/s out of one device, between machines.
        per_machine: Devices per machine.
        latency: Seconds per message around all devices of a machine; five times as much between machines.
        dollars: Price per device and hour.
    """

    name: str = "H100 SXM"
    peak: float = 989e12
    bandwidth: float = 450e9
    network: float = 50e9
    per_machine: int = 8
    latency: float = 20e-6
    dollars: float = 2.5


class Run(NamedTuple):
    """Pre-training run of SiameseIM on ImageNet-1k, patch size 16 at 224 pixels.

    Attributes:
        size: Name in `VIT_SIZES`.
        decoder_width: Channels of projector and decoder.
        batch: Images per step on all devices.
        epochs: Epochs.
        projector_depth: Blocks of the projector.
        decoder_depth: Blocks of the decoder.
    """

    size: str
    decoder_width: int = 768
    batch: int = 4096
    epochs: int = 1600
    projector_depth: int = 2
    decoder_depth: int = 4

    @property
    def image_flops(self) -> int:
        """FLOPs per image and step, with 118 of 196 patches masked."""
        return flops.siamese_im(self.size, 196, 78, 768, self.decoder_width, self.projector_depth, self.decoder_depth)

    @property
    def trained_weights(self) -> int:
        """Number of trained weights, whose gradients are reduced; includes biases and norms."""
        width, depth = VIT_SIZES[self.size]["width"], VIT_SIZES[self.size]["depth"]
        blocks = self.projector_depth + self.decoder_depth
        dense = (width + 1) * self.decoder_width + (3 * self.decoder_width + 2) * self.decoder_width
        tokens = width + self.decoder_width
        return depth * block_weights(width) + blocks * block_weights(self.decoder_width) + dense + tokens

    @property
    def messages(self) -> int:
        """Number of BatchNorm reductions, forward and backward; the target branch runs forward only."""
        # Two norms per block, with a mean and a variance each.
        online = 2 * (self.projector_depth + self.decoder_depth)
        return 2 * (2 * online + 2 * self.projector_depth)

    @property
    def bytes_reduced(self) -> dict[str, int]:
        """Bytes reduced per step in float32: gradients, statistics and correlation."""
        return {
            "gradients": FLOAT32 * self.trained_weights,
            "statistics": FLOAT32 * self.messages * self.decoder_width,
            "correlation": FLOAT32 * self.decoder_width**2,
        }


def block_weights(width: int) -> int:
    """Return the number of weights of a transformer block: four dense layers with biases, two norms."""
    return 12 * width**2 + 9 * width + 4 * width


def expected(
    run: Run,
    devices: int,
    share: float,
    accelerator: Accelerator = Accelerator(),  # noqa: B008 (an immutable tuple)
) -> dict[str, float]:
    """Return the expected throughput and cost of a run.

    Args:
        run: `Run`. The pre-training run.
        devices: int. Number of accelerators.
        share: float in [0, 1]. Share of the peak at which one device computes.
        accelerator: `Accelerator`. The device. Defaults to an H100.

    Returns:
        A dict of `step_seconds`, `compute_seconds`, `communication_seconds` (not hidden behind computation),
        `images_per_second`, `days` and `dollars`.
    """
    compute = run.batch / devices * run.image_flops / (accelerator.peak * share)
    inside = devices <= accelerator.per_machine
    bandwidth = accelerator.bandwidth if inside else accelerator.network
    latency = accelerator.latency * (1 if inside else 5)
    ring = 2 * (devices - 1) / devices / bandwidth
    moved = {name: count * ring for name, count in run.bytes_reduced.items()}
    blocking = moved["statistics"] + moved["correlation"] + (run.messages + 1) * latency
    hidden = 0.5 * compute  # the backward pass, two thirds of three quarters of the work
    communication = blocking + max(0.0, moved["gradients"] - hidden)
    seconds = compute + communication
    days = run.epochs * IMAGENET / run.batch * seconds / 86400
    return {
        "compute_seconds": compute,
        "communication_seconds": communication,
        "step_seconds": seconds,
        "images_per_second": run.batch / seconds,
        "days": days,
        "dollars": days * 24 * devices * accelerator.dollars,
    }


def report(
    measured: str | None = None, shares: Sequence[float] = (0.3, 0.5), devices: Sequence[int] = (8, 64, 256)
) -> str:
    """Return the expectations as Markdown.

    Args:
        measured: str or None. Sentence on the measured share of the peak. Defaults to None.
        shares: Sequence of floats. Shares of the peak to tabulate. Defaults to (0.3, 0.5).
        devices: Sequence of ints. Numbers of accelerators to tabulate. Defaults to (8, 64, 256).
    """
    accelerator, lines = Accelerator(), []
    for run in (Run("base"), Run("large")):
        for share in shares:
            for count in devices:
                row = expected(run, count, share)
                lines.append(
                    (
                        f"ViT-{run.size.title()}/16",
                        f"{100 * share:.0f} %",
                        count,
                        f"{1e3 * row['compute_seconds']:.0f}",
                        f"{1e3 * row['communication_seconds']:.1f}",
                        f"{row['images_per_second']:,.0f}",
                        f"{row['days']:.1f}",
                        f"{row['dollars']:,.0f}",
                    )
                )
    reduced = ", ".join(
        f"ViT-{run.size.title()} "
        + ", ".join(f"{name} {count / 1e6:.1f} MB" for name, count in run.bytes_reduced.items())
        for run in (Run("base"), Run("large"))
    )
    text = (
        f"{accelerator.name}: {accelerator.peak / 1e12:.0f} TFLOP/s bfloat16, {accelerator.bandwidth / 1e9:.0f} GB/s "
        f"within machines of {accelerator.per_machine}, {accelerator.network / 1e9:.0f} GB/s between them, "
        f"${accelerator.dollars} per hour. Batch 4096, 1600 epochs of ImageNet. FLOPs per image: ViT-Base "
        f"{Run('base').image_flops / 1e9:.0f} G, ViT-Large {Run('large').image_flops / 1e9:.0f} G. Reduced per step: "
        f"{reduced}. {measured or ''}"
    )
    columns = (
        "model",
        "share of peak",
        "devices",
        "compute, ms",
        "exposed communication, ms",
        "images/s",
        "days",
        "dollars",
    )
    return f"{text.strip()}\n\n{table(columns, lines)}"
