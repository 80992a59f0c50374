"""The report of a run: one HTML page that needs no network."""

from saccade.report.page import write_report

__all__ = ["write_report"]
