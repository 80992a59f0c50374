"""Image sets: read, split, batch, augment and fetch them.

`load` gives train, validation and test sets; `batches` iterates over one; `build_augmentation` makes the random
transformations of training; `prepare` fetches a set from its canonical address. DATA_SETS holds them by name.
"""

from saccade.data.augment import Augmentation, AugmentSettings, build_augmentation
from saccade.data.batching import batches, image_batches, steps_per_epoch
from saccade.data.digits import Digits
from saccade.data.event_frames import Clip, EventFrames, EventSource
from saccade.data.folder import Folder, FolderSet, check_folder, read_image
from saccade.data.imageset import ArraySet, ImageSet
from saccade.data.mapped import PIXEL_MAPS, MappedSet, PixelMap, PixelMapConfig
from saccade.data.source import DATA_SETS, DataSource, Parts, data_root, load, prepare
from saccade.data.split import Splits
from saccade.plugins import load_files_of

__all__ = [
    "DATA_SETS",
    "PIXEL_MAPS",
    "ArraySet",
    "AugmentSettings",
    "Augmentation",
    "Clip",
    "DataSource",
    "Digits",
    "EventFrames",
    "EventSource",
    "Folder",
    "FolderSet",
    "ImageSet",
    "MappedSet",
    "Parts",
    "PixelMap",
    "PixelMapConfig",
    "Splits",
    "batches",
    "build_augmentation",
    "check_folder",
    "data_root",
    "image_batches",
    "load",
    "prepare",
    "read_image",
    "steps_per_epoch",
]

load_files_of(__name__)
