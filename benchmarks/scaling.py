"""Pre-training on many accelerators, on paper: what one step computes, what crosses devices, days and cost.

Every device holds the whole model and a part of the batch (data parallelism). It computes at `peak * share`; a ring
moves `2 * (devices - 1) / devices` of what is reduced over each link. Gradients can be reduced while the backward pass still
runs; the statistics of BatchNorm, two small messages a layer, and the correlation can not, so their time is added.
"""

from typing import NamedTuple

from benchmarks import flops
from benchmarks.tables import table
from keras_siamim.backbones import VIT_SIZES

FLOAT32 = 4
IMAGENET = 1_281_167


class Accelerator(NamedTuple):
    """A device and its links.

    Attributes:
        name: For the table.
        peak: Dense bfloat16 FLOP/s.
        bandwidth: Bytes a second out of one device, within a machine.
        network: The same between machines.
        per_machine: Devices of one machine.
        latency: Seconds of one message around all devices of a machine; between machines five times as much.
        dollars: An hour of one device.
    """

    name: str = "H100 SXM"
    peak: float = 989e12
    bandwidth: float = 450e9
    network: float = 50e9
    per_machine: int = 8
    latency: float = 20e-6
    dollars: float = 2.5


class Run(NamedTuple):
    """What is trained.

    Attributes:
        size: Name in `VIT_SIZES`, patch 16 at 224 pixels.
        decoder_width: Of projector and decoder.
        batch: Images a step, all devices together.
        epochs: Of ImageNet-1k.
        projector_depth: Blocks.
        decoder_depth: Blocks.
    """

    size: str
    decoder_width: int = 768
    batch: int = 4096
    epochs: int = 1600
    projector_depth: int = 2
    decoder_depth: int = 4

    @property
    def image_flops(self):
        """FLOPs of one image in one step, 118 of 196 patches masked."""
        return flops.siamese_im(self.size, 196, 78, 768, self.decoder_width, self.projector_depth, self.decoder_depth)

    @property
    def trained_weights(self):
        """Weights that gradients are reduced for; biases and norms counted too."""
        width, depth = VIT_SIZES[self.size]["width"], VIT_SIZES[self.size]["depth"]
        blocks = self.projector_depth + self.decoder_depth
        dense = (width + 1) * self.decoder_width + (3 * self.decoder_width + 2) * self.decoder_width
        tokens = width + self.decoder_width
        return depth * block_weights(width) + blocks * block_weights(self.decoder_width) + dense + tokens

    @property
    def messages(self):
        """Reductions of BatchNorm: two norms a block, mean and variance, both ways; the target's forward."""
        online = 2 * (self.projector_depth + self.decoder_depth)
        return 2 * (2 * online + 2 * self.projector_depth)

    @property
    def bytes_reduced(self):
        """By name, float32."""
        return {
            "gradients": FLOAT32 * self.trained_weights,
            "statistics": FLOAT32 * self.messages * self.decoder_width,
            "correlation": FLOAT32 * self.decoder_width**2,
        }


def block_weights(width):
    """Weights of a transformer block: four dense parts with biases, two norms."""
    return 12 * width**2 + 9 * width + 4 * width


def expected(run, devices, share, accelerator=Accelerator()):  # noqa: B008 (an immutable tuple)
    """Throughput and cost.

    Args:
        run: A `Run`.
        devices: Accelerators.
        share: Of the peak that a step computes at on one device, 0...1.
        accelerator: An `Accelerator`.

    Returns:
        Dictionary: `step_seconds`, `compute_seconds`, `waiting_seconds` (what communication adds), `images_per_second`,
        `days`, `dollars`.
    """
    compute = run.batch / devices * run.image_flops / (accelerator.peak * share)
    inside = devices <= accelerator.per_machine
    bandwidth = accelerator.bandwidth if inside else accelerator.network
    latency = accelerator.latency * (1 if inside else 5)
    ring = 2 * (devices - 1) / devices / bandwidth
    moved = {name: count * ring for name, count in run.bytes_reduced.items()}
    in_line = moved["statistics"] + moved["correlation"] + (run.messages + 1) * latency
    hidden = 0.5 * compute  # the backward pass, two thirds of three quarters of the work
    waiting = in_line + max(0.0, moved["gradients"] - hidden)
    seconds = compute + waiting
    days = run.epochs * IMAGENET / run.batch * seconds / 86400
    return {
        "compute_seconds": compute,
        "waiting_seconds": waiting,
        "step_seconds": seconds,
        "images_per_second": run.batch / seconds,
        "days": days,
        "dollars": days * 24 * devices * accelerator.dollars,
    }


def report(measured=None, shares=(0.3, 0.5), devices=(8, 64, 256)):
    """Markdown.

    Args:
        measured: What share of a limit steps were measured to reach, as text, or None.
        shares: Shares of the peak to tabulate.
        devices: Numbers of accelerators.
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
                        f"{1e3 * row['waiting_seconds']:.1f}",
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
        f"${accelerator.dollars} an hour. Batch 4096, 1600 epochs of ImageNet. FLOPs of an image: ViT-Base "
        f"{Run('base').image_flops / 1e9:.0f} G, ViT-Large {Run('large').image_flops / 1e9:.0f} G. Reduced each step: "
        f"{reduced}. {measured or ''}"
    )
    columns = ("model", "share of peak", "devices", "compute, ms", "waiting, ms", "images/s", "days", "dollars")
    return f"{text.strip()}\n\n{table(columns, lines)}"
