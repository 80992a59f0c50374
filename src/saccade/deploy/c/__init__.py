"""Programs as C99 for small processors."""

from saccade.deploy.c.binding import Compiled, load
from saccade.deploy.c.plan import Plan, check_fits, parse_fits
from saccade.deploy.c.project import write_c
from saccade.deploy.c.text import Source, source
from saccade.deploy.c.writer import Writer, writes_c

__all__ = ["Compiled", "Plan", "Source", "Writer", "check_fits", "load", "parse_fits", "source", "write_c", "writes_c"]
