"""A page of a federation while it runs: read-only, off unless asked for, on this machine unless another address is
given."""

from __future__ import annotations

import http.server
import threading
from typing import Any

from saccade.split.federation import Federation
from saccade.split.page import page
from saccade.split.rounds import Rounds


class LivePage:
    """Serves the page on ``HOST:PORT``; on None, nothing. It answers GET / alone, and reads no input."""

    def __init__(self, where: str | None, federation: Federation, rounds: Rounds) -> None:
        self.address = ""
        self._server: http.server.ThreadingHTTPServer | None = None
        if where is None:
            return
        host, _, port = where.rpartition(":")
        if not port.isdecimal() or not 0 <= int(port) < 65536:
            raise ValueError(f"--live is HOST:PORT, e.g. 127.0.0.1:8080, not {where!r}")

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 5
            server_version, sys_version = "saccade", ""

            def do_GET(self) -> None:
                if self.path != "/":
                    self.send_error(404)
                    return
                body = live_html(federation, rounds).encode()
                self.send_response(200)
                for name, value in (
                    ("Content-Type", "text/html; charset=utf-8"),
                    ("Content-Length", str(len(body))),
                    ("Cache-Control", "no-store"),
                    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
                    ("X-Content-Type-Options", "nosniff"),
                    ("Refresh", "5"),
                ):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer((host or "127.0.0.1", int(port)), Handler)
        self.address = f"{host or '127.0.0.1'}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> LivePage:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def live_html(federation: Federation, rounds: Rounds) -> str:
    """The page, with what clients do now and the bytes of the round under way."""
    record = federation.record("wall clock of the rounds")
    with_now = {key: count + rounds.ledger.counts[key] for key, count in record["ledger"].items()}
    return str(page(record | {"ledger": with_now, "history": list(record["history"])}, dict(rounds.states)))
