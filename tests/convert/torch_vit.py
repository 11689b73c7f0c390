"""A plain ViT in PyTorch with timm's documented names and arithmetic, written for the tests."""

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, width, heads, mlp_ratio=4, layer_scale=False):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(width, mlp_ratio * width), "fc2": nn.Linear(mlp_ratio * width, width)}
        )
        if layer_scale:
            self.ls1, self.ls2 = (nn.ParameterDict({"gamma": nn.Parameter(torch.rand(width))}) for _ in range(2))

    def forward(self, x):
        batch, tokens, width = x.shape
        qkv = self.attn["qkv"](self.norm1(x)).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = ((q @ k.transpose(-2, -1)) * (width // self.heads) ** -0.5).softmax(-1)
        y = self.attn["proj"]((weights @ v).transpose(1, 2).reshape(batch, tokens, width))
        x = x + (y * self.ls1["gamma"] if hasattr(self, "ls1") else y)
        y = self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(x))))
        return x + (y * self.ls2["gamma"] if hasattr(self, "ls2") else y)


class ViT(nn.Module):
    def __init__(self, grid=4, patch=8, width=24, depth=2, heads=3, norm=True, layer_scale=False, classes=0):
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + grid * grid, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        self.blocks = nn.ModuleList([Block(width, heads, layer_scale=layer_scale) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6) if norm else nn.Identity()
        if classes:
            self.head = nn.Linear(width, classes)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if "norm" in name or name.endswith("bias"):
                    weight.add_(0.3 * torch.randn_like(weight))

    def forward(self, images):
        """(batch, 3, height, width) to tokens (batch, 1 + patches, width)."""
        x = self.patch_embed["proj"](images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def tokens(model, images):
    """Tokens as NumPy for channels-last NumPy images."""
    with torch.no_grad():
        return model(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
