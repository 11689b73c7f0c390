"""Selection of images and objects: those that a detector is trained with, and random images."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from keras_siamim.data import random
from keras_siamim.data.error_handling import IMAGE
from keras_siamim.data.instance_masks import valid_segmentation
from keras_siamim.data.sources.boxes import BoxSource
from keras_siamim.data.sources.indexed import IndexedSource


def with_objects(source: BoxSource, masks: bool = False) -> BoxSource:
    """Return the images that have objects, without crowd regions (ViTDet, arXiv 2203.16527).

    Args:
        source: `BoxSource`, from `open_boxes`.
        masks: Whether each object must have a mask. Objects whose segmentation is invalid, see
            `instance_masks.valid_segmentation`, are then left out, and the notes report them. Defaults to `False`.

    Returns:
        A `BoxSource` whose images can be read in any order. Their indices are their positions in its annotations.

    Raises:
        ValueError: If no image has an object, or `masks` is true and the source has no segmentations.
    """
    found, notes = source.annotations, source.notes
    kept = ~found.crowd
    if masks:
        if not found.segmentations:
            raise ValueError(f"`source` must have segmentations for masks. Received: {source.name} without them.")
        sizes = found.image_sizes[found.image_index].tolist()
        segmentations, reasons = list(found.segmentations), {}
        for row in np.flatnonzero(kept):
            try:
                segmentations[row] = valid_segmentation(segmentations[row], *sizes[row])
            except ValueError as error:
                reasons[row] = error
        kept[list(reasons)] = False
        source = dataclasses.replace(source, annotations=dataclasses.replace(found, segmentations=tuple(segmentations)))
        if reasons:
            row, reason = next(iter(reasons.items()))
            place = source.images.locate(int(source.indices(found.image_index[row : row + 1])[0]))
            notes = (
                *notes,
                f"{len(reasons):,} of {len(found.boxes):,} objects were left out, since they have no valid mask; the "
                f"first, in {place}, has {reason}",
            )
    positions = np.unique(found.image_index[kept])
    if not len(positions):
        raise ValueError(f"`source` must have images with objects. Received: {source.name} without any.")
    if len(positions) < source.size:
        notes = (*notes, f"{source.size - len(positions):,} of {source.size:,} images were left out, without objects")
    return _selected(source, f"{source.name}, images with objects", kept, positions, notes)


def box_sample(source: BoxSource, size: int, seed: int = 0) -> BoxSource:
    """Return random images with all their objects, or the source itself if it has no more than `size` images.

    Args:
        source: `BoxSource`.
        size: Integer, at least 1. Number of images.
        seed: Integer. The same seed gives the same images. Defaults to 0.

    Returns:
        A `BoxSource` in the order of `source`.

    Raises:
        ValueError: If `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"`size` must be 1 or more. Received: {size}.")
    if size >= source.size:
        return source
    positions = np.sort(random.permutation(seed, random.ORDER, 0, source.size)[:size])
    kept = np.isin(source.annotations.image_index, positions)
    name = f"{source.name}, {size} images of seed {seed}"
    return _selected(source, name, kept, positions, source.notes)


def _selected(
    source: BoxSource, name: str, objects: np.ndarray, positions: np.ndarray, notes: tuple[str, ...]
) -> BoxSource:
    """Return a source of some objects (objects,) bool and images at positions, which can be read in any order."""
    indices = source.indices(positions)
    constants = tf.constant(indices, tf.int64)
    images = IndexedSource(
        name,
        len(positions),
        lambda index: {IMAGE: source.images.load(source.images.entry(tf.gather(constants, index)))[IMAGE]},
        image_shape=source.images.image_shape,
        locate=lambda index: source.images.locate(int(indices[index])),
        notes=notes,
    )
    return dataclasses.replace(
        source,
        images=images,
        annotations=source.annotations.kept(objects, positions),
        image_ids=tuple(source.image_ids[position] for position in positions),
        notes=notes,
    )
