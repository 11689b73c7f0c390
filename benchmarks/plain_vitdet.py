"""Baseline: one training step of ViTDet with Mask R-CNN in plain eager PyTorch, a direct implementation of the method.

Weights have the names of detectron2, so that `keras_siamim.convert.vitdet` applies. Maps are (images, channels, rows,
columns). Images are looped over, as in detectron2. Suppression and RoIAlign are `plain_regions.py`.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.plain_pytorch import Mlp, layer_norm
from benchmarks.plain_regions import align, clip, decode, encode, match, pairwise_iou, sample, suppress

REGION_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
RATIOS = (0.5, 1.0, 2.0)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each place of a map."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNorm(nn.Conv2d):
    """Convolution without bias, then LayerNorm over channels."""

    def __init__(self, channels: int, width: int, kernel: int) -> None:
        super().__init__(channels, width, kernel, padding=kernel // 2, bias=False)
        self.norm = ChannelNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(super().forward(x))


class DecomposedAttention(nn.Module):
    """Self-attention on a grid, with relative positions of rows and of columns; in windows, or over the whole grid."""

    def __init__(self, width: int, heads: int, grid: int, window: int | None) -> None:
        super().__init__()
        self.heads, self.window, self.side = heads, window, window or grid
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * self.side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * self.side - 1, width // heads))
        offsets = torch.arange(self.side)[:, None] - torch.arange(self.side)[None] + self.side - 1
        self.register_buffer("offsets", offsets, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        images, rows, columns, width = x.shape
        side = self.side
        if self.window:
            x = functional.pad(x, (0, 0, 0, -columns % side, 0, -rows % side))
        down, right = x.shape[1] // side, x.shape[2] // side
        x = x.view(images, down, side, right, side, width).transpose(2, 3).reshape(-1, side * side, width)
        q, k, v = self.qkv(x).reshape(len(x), side * side, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        grid = q.unflatten(2, (side, side))
        by_row = torch.einsum("bhyxc,ykc->bhyxk", grid, self.rel_pos_h[self.offsets])
        by_column = torch.einsum("bhyxc,xkc->bhyxk", grid, self.rel_pos_w[self.offsets])
        bias = (by_row[..., None] + by_column[..., None, :]).reshape(len(x), self.heads, side**2, side**2)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = self.proj(mixed.transpose(1, 2).reshape(len(x), side * side, width))
        x = x.view(images, down, right, side, side, width).transpose(2, 3)
        return x.reshape(images, down * side, right * side, width)[:, :rows, :columns]


class WindowBlock(nn.Module):
    """Pre-norm block on a grid of tokens."""

    def __init__(self, width: int, heads: int, grid: int, window: int | None) -> None:
        super().__init__()
        self.norm1, self.norm2 = layer_norm(width), layer_norm(width)
        self.attn = DecomposedAttention(width, heads, grid, window)
        self.mlp = Mlp(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class WindowedViT(nn.Module):
    """ViT without a class token, from images to the last map."""

    def __init__(
        self, size: int, patch: int, width: int, depth: int, heads: int, window: int, global_blocks: tuple[int, ...]
    ) -> None:
        super().__init__()
        grid = size // patch
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, patch, patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid**2, width))
        self.blocks = nn.ModuleList(
            WindowBlock(width, heads, grid, None if index in global_blocks else window) for index in range(depth)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed.proj(images).permute(0, 2, 3, 1)
        x = x + self.pos_embed[:, 1:].view(1, *x.shape[1:])
        for block in self.blocks:
            x = block(x)
        return x.permute(0, 3, 1, 2)


class Pyramid(nn.Module):
    """Windowed ViT and simple feature pyramid: maps of five levels."""

    def __init__(self, net: WindowedViT, width: int, channels: int) -> None:
        super().__init__()
        half, quarter = width // 2, width // 4

        def level(incoming: int, *before: nn.Module) -> nn.Sequential:
            return nn.Sequential(*before, ConvNorm(incoming, channels, 1), ConvNorm(channels, channels, 3))

        up = (
            nn.ConvTranspose2d(width, half, 2, 2),
            ChannelNorm(half),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, 2),
        )
        self.net = net
        self.simfp_2 = level(quarter, *up)
        self.simfp_3 = level(half, nn.ConvTranspose2d(width, half, 2, 2))
        self.simfp_4 = level(width)
        self.simfp_5 = level(width, nn.MaxPool2d(2, 2))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        last = self.net(images)
        maps = [getattr(self, f"simfp_{level}")(last) for level in range(2, 6)]
        return [*maps, maps[-1][:, :, ::2, ::2]]


class ProposalHead(nn.Module):
    """Head of a region proposal network."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Module()
        self.conv.conv0 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness_logits = nn.Conv2d(channels, len(RATIOS), 1)
        self.anchor_deltas = nn.Conv2d(channels, 4 * len(RATIOS), 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = functional.relu(self.conv.conv1(functional.relu(self.conv.conv0(x))))
        logits = self.objectness_logits(x).permute(0, 2, 3, 1).flatten(1)
        return logits, self.anchor_deltas(x).permute(0, 2, 3, 1).reshape(len(x), -1, 4)


class RegionHeads(nn.Module):
    """Box head and mask head."""

    def __init__(self, channels: int, width: int, dense: int, classes: int) -> None:
        super().__init__()
        self.box_head, self.box_predictor, self.mask_head = nn.Module(), nn.Module(), nn.Module()
        for index in range(1, 5):
            incoming = channels if index == 1 else width
            self.box_head.add_module(f"conv{index}", ConvNorm(incoming, width, 3))
            self.mask_head.add_module(f"mask_fcn{index}", ConvNorm(incoming, width, 3))
        self.box_head.fc1 = nn.Linear(49 * width, dense)
        self.box_predictor.cls_score = nn.Linear(dense, classes + 1)
        self.box_predictor.bbox_pred = nn.Linear(dense, 4 * classes)
        self.mask_head.deconv = nn.ConvTranspose2d(width, width, 2, 2)
        self.mask_head.predictor = nn.Conv2d(width, classes, 1)

    def boxes(self, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores (regions, classes + 1) and deltas (regions, classes, 4)."""
        for index in range(1, 5):
            pooled = functional.relu(getattr(self.box_head, f"conv{index}")(pooled))
        x = functional.relu(self.box_head.fc1(pooled.flatten(1)))
        return self.box_predictor.cls_score(x), self.box_predictor.bbox_pred(x).unflatten(1, (-1, 4))

    def masks(self, pooled: torch.Tensor) -> torch.Tensor:
        """Return logits (regions, classes, 28, 28)."""
        for index in range(1, 5):
            pooled = functional.relu(getattr(self.mask_head, f"mask_fcn{index}")(pooled))
        return self.mask_head.predictor(functional.relu(self.mask_head.deconv(pooled)))


class PlainMaskRCNN(nn.Module):
    """ViTDet with Mask R-CNN on square images, without drop path.

    Args:
        size: int. Side of the images in pixels.
        patch: int. Side of the patches in pixels.
        width: int. Channels of the encoder.
        depth: int. Blocks of the encoder.
        heads: int. Attention heads of the encoder.
        classes: int. Number of classes.
        window: int. Side of the windows in patches.
        global_blocks: Tuple of ints. Blocks with global attention, from 0.
        settings: Any object with the attributes of `DetectorSettings`.
    """

    def __init__(self, size, patch, width, depth, heads, classes, window, global_blocks, settings) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.size, self.classes, self.settings = size, classes, settings
        self.backbone = Pyramid(
            WindowedViT(size, patch, width, depth, heads, window, global_blocks), width, settings.pyramid_width
        )
        self.proposal_generator = nn.Module()
        self.proposal_generator.rpn_head = ProposalHead(settings.pyramid_width)
        self.roi_heads = RegionHeads(settings.pyramid_width, settings.head_width, settings.dense_width, classes)
        self.strides = [patch // 4 * 2**level for level in range(5)]

    def anchors(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the anchors of each level, (anchors, 4)."""
        found = []
        for x, stride, side in zip(maps, self.strides, self.settings.anchor_sizes, strict=True):
            widths = torch.tensor([math.sqrt(side**2 / ratio) for ratio in RATIOS])
            heights = widths * torch.tensor(RATIOS)
            cell = torch.stack([-widths, -heights, widths, heights], 1) / 2
            rows, columns = torch.meshgrid(torch.arange(x.shape[2]), torch.arange(x.shape[3]), indexing="ij")
            centers = stride * torch.stack([columns, rows, columns, rows], -1)
            found.append((centers[:, :, None] + cell).reshape(-1, 4))
        return found

    def losses(self, images, boxes, classes, masks, draws=None) -> dict[str, torch.Tensor]:  # type: ignore[no-untyped-def]
        """Return the five losses.

        Args:
            images: (images, size, size, 3).
            boxes: List of (objects, 4), one per image.
            classes: List of (objects,) int64.
            masks: List of (objects, size, size) float.
            draws: Dictionary of uniform numbers, which decide the samples: `anchors` (images, anchors) and `regions`
                (images, regions). Defaults to new ones.
        """
        maps = self.backbone(images.permute(0, 3, 1, 2))
        anchors = self.anchors(maps)
        found = [self.proposal_generator.rpn_head(x) for x in maps]
        logits, deltas = (torch.cat(values, 1) for values in zip(*found, strict=True))
        if draws is None:
            regions = self.settings.post_nms_train + max(map(len, boxes))
            draws = {"anchors": torch.rand(logits.shape), "regions": torch.rand(len(images), regions)}
        first = self.anchor_losses(torch.cat(anchors), logits, deltas, boxes, draws["anchors"])
        with torch.no_grad():
            proposals = [self.proposals(anchors, found, image) for image in range(len(images))]
        return {**first, **self.region_losses(maps[:-1], proposals, boxes, classes, masks, draws["regions"])}

    def anchor_losses(self, anchors, logits, deltas, boxes, draws):  # type: ignore[no-untyped-def]
        """Return the losses of the region proposal network."""
        count = self.settings.anchors_sampled
        entropy, distance = torch.zeros(()), torch.zeros(())
        for image, truth in enumerate(boxes):
            matches, labels = match(pairwise_iou(truth, anchors), 0.3, 0.7, with_best=True)
            positive, negative = sample(labels, draws[image], count, self.settings.anchor_positive_fraction)
            chosen = torch.cat([positive, negative])
            targets = (labels[chosen] == 1).float()
            entropy = entropy + functional.binary_cross_entropy_with_logits(
                logits[image, chosen], targets, reduction="sum"
            )
            wanted = encode(anchors[positive], truth[matches[positive]])
            distance = distance + (deltas[image, positive] - wanted).abs().sum()
        return {"anchor_class_loss": entropy / count / len(boxes), "anchor_box_loss": distance / count / len(boxes)}

    def proposals(self, anchors, found, image):  # type: ignore[no-untyped-def]
        """Return the proposals of an image, the best first."""
        kept_boxes, kept_logits = [], []
        for level, (logits, deltas) in zip(anchors, found, strict=True):
            most = min(self.settings.pre_nms_train, len(level))
            best, indices = logits[image].topk(most)
            boxes = clip(decode(level[indices], deltas[image, indices]), self.size)
            some = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
            boxes, best = boxes[some], best[some]
            kept = suppress(boxes, best, self.settings.proposal_nms_threshold)
            kept_boxes.append(boxes[kept])
            kept_logits.append(best[kept])
        order = torch.cat(kept_logits).argsort(descending=True)[: self.settings.post_nms_train]
        return torch.cat(kept_boxes)[order]

    def region_losses(self, maps, proposals, boxes, classes, masks, draws):  # type: ignore[no-untyped-def]
        """Return the losses of the box head and the mask head."""
        regions, labels, truths, targets, images = [], [], [], [], []
        for image, (proposed, truth) in enumerate(zip(proposals, boxes, strict=True)):
            candidates = torch.cat([proposed, truth])
            matches, label = match(pairwise_iou(truth, candidates), 0.5, 0.5)
            # A program with padding has places between the proposals and the objects.
            draw = torch.cat(
                [draws[image][: len(proposed)], draws[image][self.settings.post_nms_train :][: len(truth)]]
            )
            positive, negative = sample(
                label, draw, self.settings.regions_sampled, self.settings.region_positive_fraction
            )
            chosen = torch.cat([positive, negative])
            regions.append(candidates[chosen])
            found = torch.full((len(chosen),), self.classes)
            found[: len(positive)] = classes[image][matches[positive]]
            labels.append(found)
            truths.append(truth[matches[chosen]])
            cut = align(masks[image][matches[positive], None], 1.0, candidates[positive], range(len(positive)), 28)
            targets.append((cut[:, 0] >= 0.5).float())
            images += [image] * len(chosen)
        regions, labels, truths = map(torch.cat, (regions, labels, truths))
        index = torch.tensor(images)
        scores, deltas = self.roi_heads.boxes(self.pool(maps, regions, index, 7))
        positive = labels < self.classes
        of_class = deltas[positive, labels[positive]]
        distance = (of_class - encode(regions[positive], truths[positive], REGION_WEIGHTS)).abs().sum()
        logits = self.roi_heads.masks(self.pool(maps, regions[positive], index[positive], 14))
        logits = logits[torch.arange(len(logits)), labels[positive]]
        return {
            "class_loss": functional.cross_entropy(scores, labels),
            "box_loss": distance / len(labels),
            "mask_loss": functional.binary_cross_entropy_with_logits(logits, torch.cat(targets)),
        }

    def pool(self, maps, boxes, images, bins):  # type: ignore[no-untyped-def]
        """Return the pooled regions, (regions, channels, bins, bins)."""
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        levels = torch.floor(
            self.settings.canonical_level + torch.log2(areas.sqrt() / self.settings.canonical_size + 1e-8)
        )
        levels = levels.clamp(2, 5).long() - 2
        pooled = maps[0].new_zeros(len(boxes), maps[0].shape[1], bins, bins)
        for level, (x, stride) in enumerate(zip(maps, self.strides[:-1], strict=True)):
            rows = torch.nonzero(levels == level)[:, 0]
            pooled = pooled.index_put((rows,), align(x, 1 / stride, boxes[rows], images[rows].tolist(), bins))
        return pooled

    def load_by_name(self, weights: Mapping[str, np.ndarray]) -> None:
        """Load arrays by the names of detectron2."""
        names = self.state_dict()
        for name, array in weights.items():
            names[name].copy_(torch.tensor(np.asarray(array)).reshape(names[name].shape))


class PlainMaskRCNNStep:
    """Training step of a `PlainMaskRCNN`: forward, backward, AdamW with layer decay."""

    def __init__(self, model: PlainMaskRCNN, learning_rate: float = 1e-4, layer_decay: float = 0.7) -> None:
        self.model = model.train()
        depth = len(model.backbone.net.blocks)
        groups = []
        for name, weight in model.named_parameters():
            layer = depth + 1
            if name.startswith("backbone.net."):
                layer = int(name.split(".")[3]) + 1 if name.startswith("backbone.net.blocks.") else 0
            rate = learning_rate * layer_decay ** (depth + 1 - layer)
            decays = weight.ndim > 1 and not name.endswith("pos_embed")
            groups.append({"params": [weight], "lr": rate, "weight_decay": 0.1 if decays else 0.0})
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)

    def __call__(self, *batch) -> torch.Tensor:  # type: ignore[no-untyped-def]
        """Run one step; return the loss before the update."""
        loss = sum(self.model.losses(*batch).values())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()
