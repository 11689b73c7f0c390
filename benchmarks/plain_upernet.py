"""Baseline: one training step of UPerNet on a ViT in plain eager PyTorch, a direct implementation of the method.

Weights have the names of mmsegmentation, so that `keras_siamim.convert.upernet` applies. Maps are (images, channels,
rows, columns).
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.plain_pytorch import Mlp, layer_norm

POOL_SCALES = (1, 2, 3, 6)
IGNORE = 255


class RelativeAttention(nn.Module):
    """Multi-head self-attention with a bias per head and relative position."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2 + 3, heads))
        self.register_buffer("index", relative_index(side), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        images, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(images, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.index].permute(2, 0, 1)[None]
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(mixed.transpose(1, 2).reshape(images, tokens, width))


def relative_index(side: int) -> torch.Tensor:
    """Return the row of the bias table for each query and key, class token first: (1 + side**2, 1 + side**2) int64."""
    rows, columns = (axis.flatten() for axis in torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))
    down = rows[:, None] - rows[None] + side - 1
    right = columns[:, None] - columns[None] + side - 1
    index = torch.empty(side**2 + 1, side**2 + 1, dtype=torch.int64)
    index[1:, 1:] = down * (2 * side - 1) + right
    last = (2 * side - 1) ** 2
    index[0, 1:], index[1:, 0], index[0, 0] = last, last + 1, last + 2
    return index


class FeedForward(nn.Module):
    """Dense, GELU, dense, with the names of mmsegmentation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        mlp = Mlp(width)
        self.layers = nn.ModuleList([nn.ModuleList([mlp.fc1]), mlp.fc2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[1](functional.gelu(self.layers[0][0](x)))


class ScaledBlock(nn.Module):
    """Pre-norm block whose branches are scaled per channel."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.ln1, self.ln2 = layer_norm(width), layer_norm(width)
        self.attn = RelativeAttention(width, heads, side)
        self.ffn = FeedForward(width)
        self.gamma_1, self.gamma_2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.gamma_1 * self.attn(self.ln1(x))
        return x + self.gamma_2 * self.ffn(self.ln2(x))


class Backbone(nn.Module):
    """ViT that returns the maps of four blocks."""

    def __init__(self, crop: int, patch: int, width: int, depth: int, heads: int, taps: tuple[int, ...]) -> None:
        super().__init__()
        self.side, self.taps = crop // patch, taps
        self.patch_embed = nn.Module()
        self.patch_embed.projection = nn.Conv2d(3, width, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.side**2, width))
        self.layers = nn.ModuleList(ScaledBlock(width, heads, self.side) for _ in range(depth))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        x = self.patch_embed.projection(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        maps = {}
        for number, block in enumerate(self.layers, start=1):
            x = block(x)
            if number in self.taps:
                maps[number] = x[:, 1:].transpose(1, 2).unflatten(2, (self.side, self.side))
        return [maps[number] for number in self.taps]


class Unit(nn.Module):
    """Convolution without bias, BatchNorm, ReLU."""

    def __init__(self, channels: int, width: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.bn(self.conv(x)))


def resize(x: torch.Tensor, size: torch.Size | tuple[int, int]) -> torch.Tensor:
    """Resize maps bilinearly with half-pixel centers."""
    return functional.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


class Neck(nn.Module):
    """Four maps of one size to 4, 2, 1 and 1/2 times the size."""

    def __init__(self, width: int) -> None:
        super().__init__()

        def up() -> nn.ConvTranspose2d:
            return nn.ConvTranspose2d(width, width, 2, 2)

        self.upsample_4x = nn.Sequential(up(), nn.BatchNorm2d(width), nn.GELU(), up())
        self.upsample_2x = nn.Sequential(up())

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        halved = functional.max_pool2d(maps[3], 2, 2)
        return [self.upsample_4x(maps[0]), self.upsample_2x(maps[1]), maps[2], halved]


class DecodeHead(nn.Module):
    """UPerHead: pyramid pooling, top-down fusion, class logits."""

    def __init__(self, channels: int, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), Unit(channels, width, 1)) for scale in POOL_SCALES
        )
        self.bottleneck = Unit(channels + len(POOL_SCALES) * width, width, 3)
        self.lateral_convs = nn.ModuleList(Unit(channels, width, 1) for _ in range(3))
        self.fpn_convs = nn.ModuleList(Unit(width, width, 3) for _ in range(3))
        self.fpn_bottleneck = Unit(4 * width, width, 3)
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(width, classes, 1)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        last = maps[-1]
        pooled = [last, *(resize(module(last), last.shape[2:]) for module in self.psp_modules)]
        levels = [unit(x) for unit, x in zip(self.lateral_convs, maps, strict=False)]
        levels.append(self.bottleneck(torch.cat(pooled, dim=1)))
        for index in (3, 2, 1):
            levels[index - 1] = levels[index - 1] + resize(levels[index], levels[index - 1].shape[2:])
        outputs = [unit(x) for unit, x in zip(self.fpn_convs, levels, strict=False)] + [levels[-1]]
        outputs = [resize(x, outputs[0].shape[2:]) for x in outputs]
        return self.conv_seg(self.dropout(self.fpn_bottleneck(torch.cat(outputs, dim=1))))


class AuxiliaryHead(nn.Module):
    """One convolution and class logits on the third map."""

    def __init__(self, channels: int, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.convs = nn.ModuleList([Unit(channels, width, 3)])
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv_seg(self.dropout(self.convs[0](x)))


class PlainUPerNet(nn.Module):
    """UPerNet on a ViT, without drop path.

    Args:
        crop: int. Side of the crops in pixels.
        patch: int. Side of the patches in pixels.
        width: int. Channels of the encoder.
        depth: int. Blocks of the encoder.
        heads: int. Attention heads of the encoder.
        classes: int. Number of classes.
        head_width: int. Channels inside the head.
        auxiliary_width: int. Channels inside the auxiliary head.
        taps: Tuple of four ints. Blocks whose maps are read, from 1.
        dropout: float. Rate of dropped channels. Defaults to 0.1.
    """

    def __init__(
        self,
        crop: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        classes: int,
        head_width: int,
        auxiliary_width: int,
        taps: tuple[int, ...],
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.backbone = Backbone(crop, patch, width, depth, heads, taps)
        self.neck = Neck(width)
        self.decode_head = DecodeHead(width, head_width, classes, dropout)
        self.auxiliary_head = AuxiliaryHead(width, auxiliary_width, classes, dropout)

    def loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of images (batch, crop, crop, 3) and label maps (batch, crop, crop) int64."""
        maps = self.neck(self.backbone(images.permute(0, 3, 1, 2)))
        total = torch.zeros(())
        for logits, weight in ((self.decode_head(maps), 1.0), (self.auxiliary_head(maps[2]), 0.4)):
            # Ignored pixels count in the divisor.
            losses = functional.cross_entropy(
                resize(logits, labels.shape[1:]), labels, ignore_index=IGNORE, reduction="none"
            )
            total = total + weight * losses.mean()
        return total

    def load_by_name(self, weights: Mapping[str, np.ndarray]) -> None:
        """Load arrays by the names of mmsegmentation."""
        names = self.state_dict()
        for name, array in weights.items():
            names[name].copy_(torch.tensor(np.asarray(array)).reshape(names[name].shape))


class PlainUPerNetStep:
    """Training step of a `PlainUPerNet`: forward, backward, AdamW with layer decay."""

    def __init__(self, model: PlainUPerNet, learning_rate: float = 1e-4, layer_decay: float = 0.65) -> None:
        self.model = model.train()
        depth = len(model.backbone.layers)
        groups = []
        for name, weight in model.named_parameters():
            layer = depth + 1
            if name.startswith("backbone."):
                layer = int(name.split(".")[2]) + 1 if name.startswith("backbone.layers.") else 0
            rate = learning_rate * layer_decay ** (depth + 1 - layer)
            # The class token and the positions decay too, which have three axes.
            groups.append({"params": [weight], "lr": rate, "weight_decay": 0.05 if weight.ndim > 1 else 0.0})
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Run one step; return the loss before the update."""
        loss = self.model.loss(images, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()
