"""Baseline of the input pipeline: torchvision's transforms on PIL images in a PyTorch data loader.

Most programs for this method use this pipeline. It runs two worker processes and needs torchvision, which the project
otherwise does not.
"""

import io
import math
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from PIL import Image, ImageFilter
from torchvision import transforms
from torchvision.transforms import functional

from benchmarks.pipeline.pillow_baseline import MEAN, STD, block_mask


class GaussianBlur:
    """PIL's blur with a random radius; MoCo's and SiameseIM's programs use it in place of torchvision's convolution."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """Blur an image."""
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


def color_transforms(blur: float, solarize: float) -> transforms.Compose:
    """Return the transforms after crop and flip, as usually composed in torchvision."""
    jitter = transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)
    return transforms.Compose(
        [
            transforms.RandomApply([jitter], p=0.8),
            transforms.RandomGrayscale(p=0.2),
            transforms.RandomApply([GaussianBlur()], p=blur),
            transforms.RandomSolarize(128, p=solarize),
            transforms.ToTensor(),
            transforms.Normalize(MEAN.tolist(), STD.tolist()),
        ]
    )


class Pairs(torch.utils.data.Dataset):
    """Data set of encoded images; an example is a view pair with its boxes and visible patches."""

    def __init__(self, files: Sequence[bytes], size: int) -> None:
        self.files, self.size = files, size
        self.transforms = color_transforms(1.0, 0.0), color_transforms(0.1, 0.2)
        self.grid = max(4, size // 16)

    def __len__(self) -> int:
        return len(self.files)

    def view(self, image: Image.Image, transform: Callable) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one view, `(3, size, size)` float32, and its box."""
        flip = random.random() < 0.5
        if flip:
            image = functional.hflip(image)
        box = transforms.RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3))
        image = functional.resized_crop(image, *box, (self.size, self.size), functional.InterpolationMode.BICUBIC)
        return transform(image), torch.tensor([*box, flip])

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        image = Image.open(io.BytesIO(self.files[index])).convert("RGB")
        (view_1, box_1), (view_2, box_2) = (self.view(image, transform) for transform in self.transforms)
        patches = self.grid * self.grid
        mask = block_mask(self.grid, int(0.6 * patches), max(2, patches // 12), random)
        return view_1, view_2, box_1, box_2, torch.from_numpy(np.flatnonzero(~mask))


def batches(files: Sequence[bytes], size: int, batch_size: int, workers: int = 2) -> Iterator[list[torch.Tensor]]:
    """Yield an infinite stream of batches."""
    repeated = list(files) * math.ceil(64 * batch_size / len(files))
    loader = torch.utils.data.DataLoader(
        Pairs(repeated, size),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        multiprocessing_context="spawn",
        persistent_workers=True,
    )
    while True:
        yield from loader
