"""Sections of the report, one for each file that a stage leaves in the run directory."""

from saccade.plugins import load_files_of
from saccade.report.sections.base import SECTIONS, Section, section

__all__ = ["SECTIONS", "Section", "section"]

load_files_of(__name__)
