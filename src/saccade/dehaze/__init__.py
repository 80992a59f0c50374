"""Dehazing by scene depth ordering: pictures, batches on any device, live video. Knows nothing of spikes."""

from saccade.dehaze.baselines import bccr, cap, dcp
from saccade.dehaze.clahe import clahe
from saccade.dehaze.dehazer import Dehazer
from saccade.dehaze.method import (
    airlight,
    cube_bound,
    depth_order,
    guided_filter,
    least_transmission,
    recover,
    solve_theta,
    transmission,
)
from saccade.dehaze.parts import Parts
from saccade.dehaze.settings import PRESETS, Settings
from saccade.dehaze.synthesis import synth_haze
from saccade.dehaze.video import VideoDehazer

__all__ = [
    "PRESETS",
    "Dehazer",
    "Parts",
    "Settings",
    "VideoDehazer",
    "airlight",
    "bccr",
    "cap",
    "clahe",
    "cube_bound",
    "dcp",
    "depth_order",
    "guided_filter",
    "least_transmission",
    "recover",
    "solve_theta",
    "synth_haze",
    "transmission",
]
