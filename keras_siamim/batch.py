"""Schema of a training batch: keys, shapes and dtypes.

`keras_siamim.data` writes these dictionaries and `keras_siamim.objectives` reads them; neither imports the other. In
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
"""

import numpy as np

VIEW_1 = "view_1"
VIEW_2 = "view_2"
RELATIVE_AFFINE = "relative_affine"
VISIBLE_IDS = "visible_ids"
TARGET_IDS = "target_ids"
LABEL = "label"

RELATIVE_AFFINE_SIZE = 4

# Views are normalized by ImageNet's mean and standard deviation per channel (red, green, blue), for pixels in [0, 1].
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], "float32")
IMAGENET_STD = np.array([0.229, 0.224, 0.225], "float32")

# Evaluation and serving resize an image to the encoder's size divided by this fraction, then take the center crop: for
# 224 pixels, "resize 256, crop 224".
CROP_FRACTION = 0.875
