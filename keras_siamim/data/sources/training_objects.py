"""Selection of the images and objects that a detector is trained with."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

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
        found = dataclasses.replace(found, segmentations=tuple(segmentations))
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
    indices = source.indices(positions)
    constants = tf.constant(indices, tf.int64)
    images = IndexedSource(
        f"{source.name}, images with objects",
        len(positions),
        lambda index: {IMAGE: source.images.load(source.images.entry(tf.gather(constants, index)))[IMAGE]},
        image_shape=source.images.image_shape,
        locate=lambda index: source.images.locate(int(indices[index])),
        notes=notes,
    )
    return dataclasses.replace(
        source,
        images=images,
        annotations=found.kept(kept, positions),
        image_ids=tuple(source.image_ids[position] for position in positions),
        notes=notes,
    )
