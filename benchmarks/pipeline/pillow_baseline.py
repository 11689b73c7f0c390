"""Baseline of the input pipeline: torchvision's transforms in PIL and NumPy, in worker processes.

No framework is imported, so that workers are as light as those of a PyTorch data loader. As there, batches are returned
through shared memory.
"""

import io
import math
import multiprocessing
import random
from collections.abc import Iterator, Sequence
from multiprocessing import shared_memory
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

MEAN = np.array([0.485, 0.456, 0.406], "float32")
STD = np.array([0.229, 0.224, 0.225], "float32")
SLOTS = 4


def crop_box(width: int, height: int, rng: random.Random) -> tuple[int, int, int, int]:
    """Draw the box of torchvision's random resized crop: `(left, top, width, height)`."""
    for _ in range(10):
        area = width * height * rng.uniform(0.08, 1)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return rng.randint(0, width - w), rng.randint(0, height - h), w, h
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    return (width - w) // 2, (height - h) // 2, w, h


def adjust_hue(image: Image.Image, shift: float) -> Image.Image:
    """Shift the hue by `shift` turns of the color circle."""
    hue, saturation, value = image.convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(int(shift * 255) % 256)
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


def jitter(image: Image.Image, rng: random.Random) -> Image.Image:
    """Apply color jitter in random order."""
    operations = [
        lambda image: ImageEnhance.Brightness(image).enhance(rng.uniform(0.6, 1.4)),
        lambda image: ImageEnhance.Contrast(image).enhance(rng.uniform(0.6, 1.4)),
        lambda image: ImageEnhance.Color(image).enhance(rng.uniform(0.8, 1.2)),
        lambda image: adjust_hue(image, rng.uniform(-0.1, 0.1)),
    ]
    rng.shuffle(operations)
    for operation in operations:
        image = operation(image)
    return image


def view(
    image: Image.Image, size: int, rng: random.Random, blur: float, solarize: float
) -> tuple[np.ndarray, tuple[int, int, int, int, bool]]:
    """Return one view of an image, `(size, size, 3)` float32, normalized, and its box."""
    flip = rng.random() < 0.5
    if flip:
        image = image.transpose(Image.FLIP_LEFT_RIGHT)
    left, top, width, height = crop_box(image.width, image.height, rng)
    image = image.crop((left, top, left + width, top + height)).resize((size, size), Image.BICUBIC)
    if rng.random() < 0.8:
        image = jitter(image, rng)
    if rng.random() < 0.2:
        image = image.convert("L").convert("RGB")
    if rng.random() < blur:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.1, 2)))
    if rng.random() < solarize:
        image = ImageOps.solarize(image, 128)
    return (np.asarray(image, "float32") / 255 - MEAN) / STD, (top, left, height, width, flip)


def block_mask(grid: int, count: int, min_block: int, rng: Any) -> np.ndarray:
    """Return a random mask of rectangles, then single patches: `(grid, grid)` bool."""
    mask = np.zeros((grid, grid), bool)
    while (remaining := count - mask.sum()) > 0:
        for _ in range(10):
            area, aspect = rng.uniform(min_block, remaining), math.exp(rng.uniform(math.log(0.3), -math.log(0.3)))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if h < grid and w < grid:
                top, left = rng.randint(0, grid - h), rng.randint(0, grid - w)
                block = mask[top : top + h, left : left + w]
                if 0 < block.size - block.sum() <= remaining:
                    block[:] = True
                    break
        else:
            free = np.flatnonzero(~mask)
            mask.ravel()[rng.sample(free.tolist(), int(remaining))] = True
    return mask


def _work(task):
    name, slot, files, size, seed = task
    rng = random.Random(seed)
    memory = shared_memory.SharedMemory(name)
    batch = np.ndarray((SLOTS, len(files), 2, size, size, 3), "float32", memory.buf)
    grid, others = max(4, size // 16), []
    for k, encoded in enumerate(files):
        image = Image.open(io.BytesIO(encoded)).convert("RGB")
        batch[slot, k, 0], one = view(image, size, rng, 1.0, 0.0)
        batch[slot, k, 1], two = view(image, size, rng, 0.1, 0.2)
        mask = block_mask(grid, int(0.6 * grid * grid), max(2, grid * grid // 12), rng)
        others.append((one, two, np.flatnonzero(~mask)))
    del batch
    memory.close()
    return slot, others


def batches(
    files: Sequence[bytes], size: int, batch_size: int, workers: int = 2
) -> Iterator[tuple[np.ndarray, list[tuple]]]:
    """Yield an infinite stream of batches: views, `(batch, 2, size, size, 3)` float32; boxes and visible patches."""
    # Spawned workers do not import a main module named `__main__.py`, as here, so they do not load TensorFlow.
    context = multiprocessing.get_context("spawn")
    nbytes = SLOTS * batch_size * 2 * size * size * 3 * 4
    memory = shared_memory.SharedMemory(create=True, size=nbytes)
    views = np.ndarray((SLOTS, batch_size, 2, size, size, 3), "float32", memory.buf)

    def task(step):
        rng = random.Random(step)
        return memory.name, step % SLOTS, rng.choices(files, k=batch_size), size, step

    try:
        with context.Pool(workers) as pool:
            pending = [pool.apply_async(_work, (task(step),)) for step in range(SLOTS - 1)]
            step = SLOTS - 1
            while True:
                slot, others = pending.pop(0).get()
                pending.append(pool.apply_async(_work, (task(step),)))
                step += 1
                yield views[slot], others
    finally:
        del views
        memory.close()
        memory.unlink()
