"""The command line: parse, call, print."""

try:
    from saccade.cli.main import app, main
except KeyboardInterrupt:  # before anything was asked for
    import os

    os.write(2, b"saccade: interrupted\n")
    os._exit(130)

__all__ = ["app", "main"]
