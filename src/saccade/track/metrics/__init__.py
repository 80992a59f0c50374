"""Protocols of tracking scores, one file each."""

from saccade.plugins import load_files_of
from saccade.track.metrics.base import PROTOCOLS, Protocol, Scores

load_files_of(__name__)

__all__ = ["PROTOCOLS", "Protocol", "Scores"]
