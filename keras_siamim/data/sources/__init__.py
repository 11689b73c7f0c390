"""Sources of images: folders, data sets of TFDS, files of records, and arrays.

`open_source` opens a source by a name or path. An `IndexedSource` reads any image by its index. A `RecordSource` reads
files of records from front to back. Both yield encoded images in a defined order; `keras_siamim.data.pipeline` decodes
them. `open_boxes` opens images with boxes.
"""

from keras_siamim.data.sources.box_selection import box_sample, with_objects
from keras_siamim.data.sources.boxes import BoxSource, open_boxes
from keras_siamim.data.sources.coco import coco_source, ground_truth
from keras_siamim.data.sources.derived import Source, has_labels, match_classes, sample_of, with_gaps
from keras_siamim.data.sources.digits import digits_source
from keras_siamim.data.sources.folder import EXTENSIONS, folder_source
from keras_siamim.data.sources.indexed import IndexedSource, array_source, cached
from keras_siamim.data.sources.opening import open_held_out, open_source
from keras_siamim.data.sources.records import RecordSource, record_source
from keras_siamim.data.sources.tfds import tfds_source
from keras_siamim.data.sources.tfds_objects import tfds_boxes

__all__ = [
    "EXTENSIONS",
    "BoxSource",
    "IndexedSource",
    "RecordSource",
    "Source",
    "array_source",
    "box_sample",
    "cached",
    "coco_source",
    "digits_source",
    "folder_source",
    "ground_truth",
    "has_labels",
    "match_classes",
    "open_boxes",
    "open_held_out",
    "open_source",
    "record_source",
    "sample_of",
    "tfds_boxes",
    "tfds_source",
    "with_gaps",
    "with_objects",
]
