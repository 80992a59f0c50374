"""Reports: HTML pages that need no network."""

from saccade.report.comparison import write_comparison
from saccade.report.page import write_report
from saccade.report.pages import fill
from saccade.report.run_files import RunFiles, write_text
from saccade.report.sections import section

__all__ = ["RunFiles", "fill", "section", "write_comparison", "write_report", "write_text"]
