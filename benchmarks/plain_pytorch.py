"""Baseline: one training step of SiameseIM in plain eager PyTorch, a direct implementation of the paper.

It uses a fused qkv projection, `scaled_dot_product_attention`, `BatchNorm1d` over images and tokens, and
`torch.optim.AdamW`. Weights have the names of the authors' programs, so that `keras_siamim.convert.names` applies.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

MASK_TOKEN_STD = 0.02


class TokenBatchNorm(nn.Module):
    """BatchNorm over images and tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(x.flatten(0, 1)).view_as(x)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        images, tokens, width = x.shape
        qkv = self.qkv(x).reshape(images, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*qkv)
        return self.proj(mixed.transpose(1, 2).reshape(images, tokens, width))


class Mlp(nn.Module):
    """Dense, GELU, dense."""

    def __init__(self, width: int, ratio: int = 4) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, ratio * width)
        self.fc2 = nn.Linear(ratio * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.norm1 = norm(width)
        self.attn = Attention(width, heads)
        self.norm2 = norm(width)
        self.mlp = Mlp(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def layer_norm(width: int) -> nn.LayerNorm:
    """Return a LayerNorm of the encoder."""
    return nn.LayerNorm(width, eps=1e-6)


def sincos_table(side: int, width: int) -> torch.Tensor:
    """Return fixed position embeddings, (side * side, width): half the channels for the row, half for the column."""
    coordinates = torch.arange(side, dtype=torch.float32)
    encoded = sincos(coordinates, width // 4)
    rows = encoded[:, None].expand(side, side, -1)
    columns = encoded[None].expand(side, side, -1)
    return torch.cat([rows, columns], dim=-1).reshape(side * side, width)


def sincos(coordinate: torch.Tensor, frequencies: int) -> torch.Tensor:
    """Return sines, then cosines of coordinates (...) at `frequencies` frequencies: (..., 2 * frequencies)."""
    rates = 10000 ** (-torch.arange(frequencies, dtype=torch.float64) / frequencies)
    angle = coordinate[..., None] * rates.float().to(coordinate.device)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class Branch(nn.Module):
    """Branch of patch embedding, encoder, dense layer to the decoder's width, projector and mask token."""

    def __init__(
        self,
        side: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        decoder_width: int,
        decoder_heads: int,
        projector_depth: int,
    ) -> None:
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, patch_size, patch_size)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width).normal_(std=MASK_TOKEN_STD))
        self.blocks = nn.ModuleList(Block(width, heads, layer_norm) for _ in range(depth))
        self.decoder_embed = nn.Linear(width, decoder_width)
        self.projector_decoder_blocks = nn.ModuleList(
            Block(decoder_width, decoder_heads, TokenBatchNorm) for _ in range(projector_depth)
        )
        self.mask_token = nn.Parameter(torch.empty(1, 1, decoder_width).normal_(std=MASK_TOKEN_STD))
        self.register_buffer("pos_embed", sincos_table(side, width))

    def forward(self, images: torch.Tensor, visible_ids: torch.Tensor | None = None) -> torch.Tensor:
        """Map channels-last images to projected tokens, (images, 1 + visible patches, decoder width)."""
        x = self.patch_embed.proj(images.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2) + self.pos_embed
        if visible_ids is not None:
            x = x.gather(1, visible_ids[:, :, None].expand(-1, -1, x.shape[-1]))
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.decoder_embed(x)
        for block in self.projector_decoder_blocks:
            x = block(x)
        return x


class PlainSiameseIM(nn.Module):
    """SiameseIM: online branch, target branch and decoder.

    Args:
        image_size: int. Side of the images in pixels.
        patch_size: int. Side of the patches in pixels.
        width: int. Channels of the encoder.
        depth: int. Blocks of the encoder.
        heads: int. Attention heads of the encoder.
        decoder_width: int. Channels of projector and decoder.
        decoder_heads: int. Attention heads of projector and decoder.
        projector_depth: int. Blocks of the projector. Defaults to 2.
        decoder_depth: int. Blocks of the decoder. Defaults to 4.
        negative_weight: float or None. UniGrad's lambda. Defaults to the paper's, scaled to the decoder's width.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        decoder_width: int,
        decoder_heads: int,
        projector_depth: int = 2,
        decoder_depth: int = 4,
        negative_weight: float | None = None,
    ) -> None:
        super().__init__()
        self.side = image_size // patch_size
        self.negative_weight = 0.02 * (768 / decoder_width) if negative_weight is None else negative_weight
        branch = (self.side, patch_size, width, depth, heads, decoder_width, decoder_heads, projector_depth)
        self.online, self.target = Branch(*branch), Branch(*branch)
        self.decoder_pos_mlp = nn.Linear(2 * decoder_width, decoder_width)
        self.predictor_decoder_blocks = nn.ModuleList(
            Block(decoder_width, decoder_heads, TokenBatchNorm) for _ in range(decoder_depth)
        )
        self.decoder_pred = nn.Linear(decoder_width, decoder_width)
        self.register_buffer("decoder_pos_embed", sincos_table(self.side, decoder_width))
        self.target.load_state_dict(self.online.state_dict())
        self.target.requires_grad_(False)
        self.online.patch_embed.requires_grad_(False)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return prediction and target, (images, patches, decoder width) each, of a batch of `keras_siamim.batch`."""
        visible = batch["visible_ids"].long()
        projected = self.online(batch["view_1"], visible)
        class_token, patches = projected[:, :1], projected[:, 1:] + self.decoder_pos_embed[visible]
        masks = self.online.mask_token + self.decoder_pos_mlp(self.relative_positions(batch["relative_affine"]))
        x = torch.cat([class_token, patches, masks], dim=1)
        for block in self.predictor_decoder_blocks:
            x = block(x)
        prediction = self.decoder_pred(x)[:, -masks.shape[1] :]
        with torch.no_grad():
            target = self.target(batch["view_2"])[:, 1:]
            target = functional.layer_norm(target.float(), target.shape[-1:])
        return prediction, target

    def relative_positions(self, affine: torch.Tensor) -> torch.Tensor:
        """Return relative position embeddings of view 2, (images, patches, 2 * decoder width) (section 3.2)."""
        center = (torch.arange(self.side, device=affine.device) + 0.5) / self.side
        frequencies = self.decoder_pos_mlp.out_features // 4
        offset, scale = affine[:, :2, None], affine[:, 2:, None]
        y, x = sincos((offset + scale * center) * self.side - 0.5, frequencies).unbind(1)
        height, width = sincos(10 * scale[..., 0].abs().log(), frequencies).unbind(1)
        grid = (-1, self.side, self.side, -1)
        chunks = (y[:, :, None], x[:, None], height[:, None, None], width[:, None, None])
        return torch.cat([chunk.expand(grid) for chunk in chunks], dim=-1).flatten(1, 2)

    def loss(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the UniGrad loss over all patches (equation 3)."""
        p, z = prediction.float().flatten(0, 1), target.flatten(0, 1)
        correlation = z.T @ z / len(z)
        positive = (p - z).square().sum(-1).mean()
        negative = ((p @ correlation) * p).sum(-1).mean()
        return (positive + self.negative_weight * negative) / p.shape[-1]

    @torch.no_grad()
    def update_target(self, momentum: float) -> None:
        """Update the target branch: `target = momentum * target + (1 - momentum) * online`."""
        for target, online in zip(self.target.parameters(), self.online.parameters(), strict=True):
            target.mul_(momentum).add_(online, alpha=1 - momentum)

    def load_by_name(self, weights: Mapping[str, np.ndarray]) -> None:
        """Load arrays by the names of the authors' program; names of the target branch start with `mm_`."""
        names = self.state_dict()
        for name, array in weights.items():
            branch, bare = ("target.", name[3:]) if name.startswith("mm_") else ("online.", name)
            key = branch + bare if branch + bare in names else name
            names[key].copy_(torch.tensor(array))


class PlainStep:
    """Training step of a model: momentum update, forward, backward, gradient clipping, AdamW."""

    def __init__(
        self,
        model: PlainSiameseIM,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.95),
        momentum: float = 0.995,
        clip: float = 1.0,
    ) -> None:
        self.model = model.train()
        self.momentum, self.clip = momentum, clip
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        groups = [
            {"params": [weight for weight in self.weights if weight.ndim > 1], "weight_decay": weight_decay},
            {"params": [weight for weight in self.weights if weight.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=betas)

    def __call__(self, batch: Mapping[str, torch.Tensor], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Run one step; return the loss before the update."""
        self.model.update_target(self.momentum)
        device = batch["view_1"].device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            prediction, target = self.model(batch)
        loss = self.model.loss(prediction, target)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, self.clip)
        self.optimizer.step()
        return loss.detach()
