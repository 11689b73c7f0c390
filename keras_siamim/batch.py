"""What crosses between rooms: the keys, shapes and dtypes of a training batch.

`data/` writes these dictionaries and `objectives/` reads them; neither knows the other. Symbols: `batch` images,
`patches = rows * columns` of a view's patch grid.

| key | shape | dtype | meaning |
|---|---|---|---|
| `VIEW_1` | (batch, height, width, 3) | float32 | the online view, normalized |
| `VIEW_2` | (batch, height, width, 3) | float32 | the target view, normalized |
| `RELATIVE_AFFINE` | (batch, 4) | float32 | where view 2 lies in view 1: `offset_y, offset_x, scale_y, scale_x` |
| `VISIBLE_IDS` | (batch, visible) | int32 | ascending patch numbers (row-major) of view 1 that are *not* masked |
| `TARGET_IDS` | (batch, asked) | int32 | optional: the ascending patch numbers of view 2 that are predicted |
| `LABEL` | (batch,) | int32 | class, where the source has one; objectives ignore it |

A point of a view has coordinates in units of that view, 0...1 from its top left corner. The affine map takes a point of
view 2 to view 1, `x_1 = offset + scale * x_2` per axis; the x scale is negative exactly when one of the two views is
flipped. It equals the six geometry numbers of the paper's program: `offset_y = delta_i`, `scale_y = delta_h` and,
without a relative flip, `offset_x = delta_j`, `scale_x = delta_w`; with one, `offset_x = flip_delta_j`,
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

# Views are normalized by ImageNet's mean and standard deviation per channel (red, green, blue), of values 0...1.
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], "float32")
IMAGENET_STD = np.array([0.229, 0.224, 0.225], "float32")

# Evaluated and served images are resized to cover a frame of the encoder's size over this, and the center is cut out:
# for 224 pixels, "resize 256, crop 224".
CROP_FRACTION = 0.875
