"""Ways to train against attacks, one file each; recipes name them among their ingredients."""

from saccade.plugins import load_files_of

load_files_of(__name__)
