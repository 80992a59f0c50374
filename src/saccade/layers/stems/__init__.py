"""Stems of transformers, one file each, by name in ``STEMS``: from pixels to the first map of tokens."""

from saccade.layers.stems.base import STEMS, Stem, StemConfig
from saccade.plugins import load_files_of

__all__ = ["STEMS", "Stem", "StemConfig"]

load_files_of(__name__)
