"""A plain ConvNeXt V2 in PyTorch with timm's documented names and the paper's arithmetic, written for the tests."""

import torch
from torch import nn
from torch.nn import functional


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (batch, channels, height, width)."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResponseNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(width))

    def forward(self, x):
        norms = x.norm(p=2, dim=(1, 2), keepdim=True)
        return self.weight * (x * (norms / (norms.mean(dim=-1, keepdim=True) + 1e-6))) + self.bias + x


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv_dw = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(width, 4 * width), "grn": ResponseNorm(4 * width), "fc2": nn.Linear(4 * width, width)}
        )

    def forward(self, x):
        y = self.norm(self.conv_dw(x).permute(0, 2, 3, 1))
        y = self.mlp["fc2"](self.mlp["grn"](functional.gelu(self.mlp["fc1"](y))))
        return x + y.permute(0, 3, 1, 2)


class Stage(nn.Module):
    def __init__(self, width, depth, previous):
        super().__init__()
        self.downsample = nn.Identity()
        if previous:
            self.downsample = nn.Sequential(ChannelNorm(previous, eps=1e-6), nn.Conv2d(previous, width, 2, 2))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))

    def forward(self, x):
        return self.blocks(self.downsample(x))


class ConvNeXt(nn.Module):
    def __init__(self, stem=2, widths=(8, 12), depths=(1, 2), classes=0):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], stem, stem), ChannelNorm(widths[0], eps=1e-6))
        self.stages = nn.Sequential(
            *(Stage(*sizes) for sizes in zip(widths, depths, (None, *widths[:-1]), strict=True))
        )
        if classes:
            self.head = nn.ModuleDict({"norm": ChannelNorm(widths[-1]), "fc": nn.Linear(widths[-1], classes)})

    def forward(self, images):
        """(batch, 3, height, width) to tokens (batch, positions, width)."""
        return self.stages(self.stem(images)).flatten(2).transpose(1, 2)
