"""Sections of the report, one for each file that a stage leaves in the run directory."""

from saccade.report.sections import compression, profile, pruning, samples  # noqa: F401  (registers them)
from saccade.report.sections.base import SECTIONS, Section, section

__all__ = ["SECTIONS", "Section", "section"]
