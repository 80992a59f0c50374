"""What stands between the sites and Flower's SuperLink: it passes on the calls of SuperNodes, and nothing else.

Flower 1.42 serves three interfaces on one port: the fleet's, which SuperNodes call and which asks for their keys, and two that
register keys, submit apps and hand out tasks, without a lock of their own. The SuperLink therefore listens on the loopback
alone, and this on the address that sites know.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PASSED = re.compile(r"/v1/fleet/[a-z]+(-[a-z]+)*")  # no query, no dots: what is read here is what is served
MOST_BYTES = 1 << 28  # of a call, held in memory before the SuperLink knows who calls; Flower sends objects in pieces
MOST_CALLS = 256  # at a time
IDLE_S, STRANGER_S = 120.0, 10.0  # how long a line may be silent: a member's, and one that has had no good answer yet
FRESH_S = 2.0  # a SuperLink closes what was idle for 5 s
OWN = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "te", "upgrade", "server", "date"}


class _Front(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], inner: str, keys: Path | None) -> None:
        self.inner, self.places = inner, threading.BoundedSemaphore(MOST_CALLS)
        self.trust = None if keys is None else ssl.create_default_context(cafile=str(keys / "ca.pem"))
        self.tls = None if keys is None else ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self.tls is not None and keys is not None:
            self.tls.load_cert_chain(keys / "certificate.pem", keys / "key.pem")
        super().__init__(address, _Call)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the call's own thread, so that a client that is slow to shake hands holds up nobody."""
        request.settimeout(STRANGER_S)
        with self.places:
            if self.tls is None:
                return super().finish_request(request, client_address)
            with contextlib.suppress(OSError), self.tls.wrap_socket(request, server_side=True) as secure:
                super().finish_request(secure, client_address)  # type: ignore[arg-type]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks is the caller's matter."""

    def connect(self) -> http.client.HTTPConnection:
        if self.trust is None:
            return http.client.HTTPConnection(self.inner, timeout=IDLE_S)
        return http.client.HTTPSConnection(self.inner, timeout=IDLE_S, context=self.trust)


class _Call(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open
    server: _Front

    def do_POST(self) -> None:
        lengths = self.headers.get_all("Content-Length", [])
        if len(lengths) != 1 or not lengths[0].isdecimal():
            return self._refuse(411)
        if int(lengths[0]) > MOST_BYTES:
            return self._refuse(413)
        if not PASSED.fullmatch(self.path):
            self.rfile.read(min(int(lengths[0]), 1 << 16))  # a line that is closed on unread bytes loses the answer
            return self._refuse(404)
        body = self.rfile.read(int(lengths[0]))
        line = self._line()
        try:
            line.request("POST", self.path, body, self._kept(self.headers))
            answer = line.getresponse()
            data, status, headers = answer.read(), answer.status, self._kept(answer.headers)
        except (OSError, http.client.HTTPException):  # not tried again: it may have been heard
            line.close()
            return self._refuse(502)
        self.used = time.monotonic()
        if status < 400:
            self.connection.settimeout(IDLE_S)
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def setup(self) -> None:
        super().setup()
        self.line, self.used = self.server.connect(), 0.0

    def finish(self) -> None:
        self.line.close()
        super().finish()

    def _line(self) -> http.client.HTTPConnection:
        """The line to the SuperLink: kept from call to call, but made anew where that may have closed it."""
        if time.monotonic() - self.used > FRESH_S:
            self.line.close()  # it opens by itself
        return self.line

    def _kept(self, headers: Any) -> dict[str, str]:
        return {name: value for name, value in headers.items() if name.lower() not in OWN}

    def _refuse(self, status: int) -> None:
        self.close_connection = True
        self.send_response_only(status)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the SuperLink keeps a log."""


@contextmanager
def fleet_front(address: str, inner: str, keys: Path | None) -> Iterator[None]:
    """Listen on ``address`` (TLS with the keys' certificate, if any) for what SuperNodes call, and pass it on to ``inner``.

    Raises OSError if the address is taken.
    """
    host, _, port = address.rpartition(":")
    front = _Front((host, int(port)), inner, keys)
    thread = threading.Thread(target=front.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        front.shutdown()
        front.server_close()
        thread.join(5)
