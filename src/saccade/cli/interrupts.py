"""Ctrl-C at the command line: asked once, what runs is stopped and says so; asked again, the process ends at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

SAID = b"saccade: interrupted\n"
_asked = False


def until_done(run: Callable[[], int]) -> NoReturn:
    """Exit with what ``run`` gives, or with 130 after Ctrl-C; never with a traceback of KeyboardInterrupt."""
    signal.signal(signal.SIGINT, _first)
    try:
        code = _outcome(run)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all that is left is to end
    except KeyboardInterrupt:  # while another was being answered; _first raises it once, so that it cannot come again
        code = 130
    sys.exit(code)


def _outcome(run: Callable[[], int]) -> int:
    try:
        return run()
    except KeyboardInterrupt:
        return _interrupted()
    except Exception:  # an import that was cut off may raise anything
        if not _asked:
            raise
        return _interrupted()


def _interrupted() -> int:
    os.write(2, SAID)
    return 130


def _first(*_: Any) -> None:
    global _asked
    _asked = True
    signal.signal(signal.SIGINT, _again)
    raise KeyboardInterrupt


def _again(*_: Any) -> None:
    os.write(2, SAID)
    os._exit(130)
