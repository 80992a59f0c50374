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
        code = run()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all that is left is to end
    except KeyboardInterrupt:
        code = _interrupted()
    except Exception:  # an import that was cut off may raise anything
        if not _asked:
            raise
        code = _interrupted()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


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
