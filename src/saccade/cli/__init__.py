"""The command line: parse, call, print."""

from saccade.cli.main import app, main

__all__ = ["app", "main"]
