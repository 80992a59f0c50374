"""Who came, what was refused and why: a JSON line an event, and nothing of anybody's data."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any


class AuditLog:
    """Appends to a file, or keeps nothing where there is none. ``counts``: how often each event happened."""

    def __init__(self, path: Path | None = None) -> None:
        self.path, self.counts, self._lock = path, dict[str, int](), threading.Lock()

    def write(self, event: str, **more: Any) -> None:
        with self._lock:
            self.counts[event] = self.counts.get(event, 0) + 1
            if self.path is None or (event == "refused" and self.counts[event] > 10_000):  # a flood fills no disk
                return
            line = json.dumps({"time": round(time.time(), 3), "event": event, **more})
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
