"""Sources of images: folders, TFDS, files of records, arrays.

`open_source` opens what a user types. An `IndexedSource` can read any image by its number; a `RecordSource` reads files
of records from front to back. Both give encoded images in a stated order; the pipeline does the rest.
"""

from keras_siamim.data.sources.derived import has_labels, match_classes, sample_of, with_gaps
from keras_siamim.data.sources.digits import digits_source
from keras_siamim.data.sources.folder import EXTENSIONS, folder_source
from keras_siamim.data.sources.indexed import IndexedSource, array_source, cached
from keras_siamim.data.sources.opening import open_held_out, open_source
from keras_siamim.data.sources.records import RecordSource, record_source, tfds_source

__all__ = [
    "EXTENSIONS",
    "IndexedSource",
    "RecordSource",
    "array_source",
    "cached",
    "digits_source",
    "folder_source",
    "has_labels",
    "match_classes",
    "open_held_out",
    "open_source",
    "record_source",
    "sample_of",
    "tfds_source",
    "with_gaps",
]
