"""``saccade track``: one command a file of this folder, which puts it on ``track_app``."""

from saccade import plugins
from saccade.cli.track.app import track_app

plugins.load_files_of(__name__)

__all__ = ["track_app"]
