"""Schemas of training batches: keys, shapes and dtypes.

`keras_siamim.data` writes these dictionaries, and objectives and detectors read them; neither imports the other. In
shapes, `batch` is the number of images. A view has `patches = rows * columns` patches, indexed row by row from 0.

| key | shape | dtype | meaning |
|---|---|---|---|
| `VIEW_1` | (batch, height, width, 3) | float32 | the online view, normalized |
| `VIEW_2` | (batch, height, width, 3) | float32 | the target view, normalized |
| `RELATIVE_AFFINE` | (batch, 4) | float32 | view 2 relative to view 1: `offset_y, offset_x, scale_y, scale_x` |
| `VISIBLE_IDS` | (batch, visible) | int32 | ascending indices of the visible patches of view 1 |
| `TARGET_IDS` | (batch, targets) | int32 | optional: ascending indices of the patches of view 2 to predict |
| `LABEL` | (batch,) | int32 | optional: class index; objectives ignore it |

Coordinates of a point are relative to its view: [0, 1] per axis, from the top left corner. The affine map takes a point
of view 2 to view 1: `x_1 = offset + scale * x_2` per axis. `scale_x` is negative if exactly one view is flipped.

The four values carry the six geometry numbers of the authors' program: `offset_y = delta_i` and `scale_y = delta_h`.
Without a relative flip, `offset_x = delta_j` and `scale_x = delta_w`. With one, `offset_x = flip_delta_j` and
`scale_x = -delta_w`.

A batch of detection has other keys. Its images are resized, and padded at the right and bottom to squares of `size`
pixels. `objects` is the same number in every batch.

| key | shape | dtype | meaning |
|---|---|---|---|
| `IMAGES` | (batch, size, size, 3) | float32 | images, normalized; 0 in the padding |
| `SIZES` | (batch, 2) | int32 | height and width of the resized images, without padding |
| `BOXES` | (batch, objects, 4) | float32 | training: x1, y1, x2, y2 in pixels of `IMAGES`, padded with 0 |
| `CLASSES` | (batch, objects) | int32 | training: classes, padded with -1 |
| `MASKS` | (batch, objects, size, size) | uint8 | training, optional: 1 inside an object, padded with 0 |
| `ORIGINAL_SIZES` | (batch, 2) | int32 | height and width of the stored images |
| `SCORE_THRESHOLD` | (batch,) | float32 | optional: least score of detections, instead of the detector's |
| `IMAGE_IDS` | (batch,) | int32 | ids of the images in files of detections |
"""

import numpy as np

VIEW_1 = "view_1"
VIEW_2 = "view_2"
RELATIVE_AFFINE = "relative_affine"
VISIBLE_IDS = "visible_ids"
TARGET_IDS = "target_ids"
LABEL = "label"

IMAGES = "images"
SIZES = "sizes"
BOXES = "boxes"
CLASSES = "classes"
MASKS = "masks"
ORIGINAL_SIZES = "original_sizes"
SCORE_THRESHOLD = "score_threshold"
IMAGE_IDS = "image_ids"

RELATIVE_AFFINE_SIZE = 4

# Views are normalized by ImageNet's mean and standard deviation per channel (red, green, blue), for pixels in [0, 1].
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], "float32")
IMAGENET_STD = np.array([0.229, 0.224, 0.225], "float32")

# Evaluation and serving resize an image to the encoder's size divided by this fraction, then take the center crop: for
# 224 pixels, "resize 256, crop 224".
CROP_FRACTION = 0.875
