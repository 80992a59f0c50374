"""Saccade: a toolkit for spiking vision at the edge."""

__version__ = "0.2.0"
