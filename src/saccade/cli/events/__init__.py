"""``saccade events``: one command a file of this folder, which puts it on ``events_app``."""

from saccade import plugins
from saccade.cli.events.app import events_app

plugins.load_files_of(__name__)

__all__ = ["events_app"]
