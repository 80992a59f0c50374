"""The file formats, one file each: a file put here registers its ``Format``."""

from saccade import plugins

plugins.load_files_of(__name__)
