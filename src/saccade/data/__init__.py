"""Image sets: read, split, batch, augment and fetch them.

`load` gives train, validation and test sets; `batches` iterates over one; `build_augmentation` makes the random
transformations of training; `prepare` fetches a set from its canonical address.
"""

from saccade.data.augment import Augmentation, build_augmentation
from saccade.data.batching import batches, image_batches, steps_per_epoch
from saccade.data.catalogue import data_root, describe, load, names
from saccade.data.folder import FolderSet, check_folder, read_image
from saccade.data.imageset import ArraySet, ImageSet
from saccade.data.mapped import MappedSet, PixelMap
from saccade.data.preparing import prepare
from saccade.data.split import Splits

__all__ = [
    "ArraySet",
    "Augmentation",
    "FolderSet",
    "ImageSet",
    "MappedSet",
    "PixelMap",
    "Splits",
    "batches",
    "build_augmentation",
    "check_folder",
    "data_root",
    "describe",
    "image_batches",
    "load",
    "names",
    "prepare",
    "read_image",
    "steps_per_epoch",
]
