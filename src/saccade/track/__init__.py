"""Tracking one target with event cameras: models, training, the tracker, scores."""

from saccade.models.sdtrack import SDTrack, SDTrackConfig
from saccade.track.baselines import BASELINES, Baseline
from saccade.track.boxes import checked_box, clipped, overlap
from saccade.track.codec import decoded, encoded
from saccade.track.crops import Region, canvas, cut, region_of
from saccade.track.energy import costs, published_mj
from saccade.track.evaluate import tracked
from saccade.track.live import Follower, Step, follow
from saccade.track.metrics import PROTOCOLS, Protocol, Scores
from saccade.track.official import load_official
from saccade.track.results import Track, read_boxes, read_tracks, write_boxes
from saccade.track.tracker import Found, Tracker, shipped

__all__ = [
    "BASELINES",
    "PROTOCOLS",
    "Baseline",
    "Follower",
    "Found",
    "Protocol",
    "Region",
    "SDTrack",
    "SDTrackConfig",
    "Scores",
    "Step",
    "Track",
    "Tracker",
    "canvas",
    "checked_box",
    "clipped",
    "costs",
    "cut",
    "decoded",
    "encoded",
    "follow",
    "load_official",
    "overlap",
    "published_mj",
    "read_boxes",
    "read_tracks",
    "region_of",
    "shipped",
    "tracked",
    "write_boxes",
]
