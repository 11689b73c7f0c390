"""What most programs for this method do today: torchvision's transforms on PIL images in a PyTorch data loader.

Two worker processes. Needs torchvision, which the project otherwise does not.
"""

import io
import math
import random

import numpy as np
import torch
from PIL import Image, ImageFilter
from torchvision import transforms
from torchvision.transforms import functional

from benchmarks.pipeline.pillow_road import MEAN, STD, block_mask


class GaussianBlur:
    """PIL's blur of a drawn radius, as MoCo's and SiameseIM's programs have it instead of torchvision's convolution."""

    def __call__(self, image):
        """Blur a PIL image."""
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


def distortions(blur, solarize):
    """Everything after crop and flip, as torchvision's users compose it."""
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
    """View pairs, their boxes and the visible patches of one encoded image each."""

    def __init__(self, files, size):
        self.files, self.size = files, size
        self.distortions = distortions(1.0, 0.0), distortions(0.1, 0.2)
        self.grid = max(4, size // 16)

    def __len__(self):
        return len(self.files)

    def view(self, image, distort):
        """One view, (3, size, size) float32, and its box."""
        flip = random.random() < 0.5
        if flip:
            image = functional.hflip(image)
        box = transforms.RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3))
        image = functional.resized_crop(image, *box, (self.size, self.size), functional.InterpolationMode.BICUBIC)
        return distort(image), torch.tensor([*box, flip])

    def __getitem__(self, index):
        image = Image.open(io.BytesIO(self.files[index])).convert("RGB")
        (view_1, box_1), (view_2, box_2) = (self.view(image, distort) for distort in self.distortions)
        patches = self.grid * self.grid
        mask = block_mask(self.grid, int(0.6 * patches), max(2, patches // 12), random)
        return view_1, view_2, box_1, box_2, torch.from_numpy(np.flatnonzero(~mask))


def batches(files, size, batch_size, workers=2):
    """Yield batches without end."""
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
