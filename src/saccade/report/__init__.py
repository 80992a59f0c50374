"""Reports: HTML pages that need no network."""

from saccade.report.comparison import write_comparison
from saccade.report.page import write_report

__all__ = ["write_comparison", "write_report"]
