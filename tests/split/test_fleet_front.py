"""What reaches a SuperLink from outside: what SuperNodes call, and nothing else."""

import contextlib
import http.client
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("cryptography", reason="the extra `split` is not installed")

from saccade.split.fleet_front import fleet_front
from saccade.split.flower_processes import free_port
from saccade.split.keys import make_keys


class Inner(BaseHTTPRequestHandler):
    """Says back what it got."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, self.headers.get("X-Signature")))
        self.send_response(200)
        self.send_header("X-Kept", "yes")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[::-1])

    def log_message(self, *arguments):
        pass


@pytest.fixture(params=["plain", "TLS"])
def front(request, tmp_path):
    keys, trust = None, None
    inner = ThreadingHTTPServer(("127.0.0.1", 0), Inner)
    inner.seen = []
    if request.param == "TLS":
        make_keys(tmp_path / "keys", ["one"], ["superlink.example"])
        keys = tmp_path / "keys" / "server"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(keys / "certificate.pem", keys / "key.pem")
        inner.socket = context.wrap_socket(inner.socket, server_side=True)
        trust = ssl.create_default_context(cafile=str(keys / "ca.pem"))
    threading.Thread(target=inner.serve_forever, args=(0.05,), daemon=True).start()
    address = f"127.0.0.1:{free_port()}"

    def connect():
        if trust is None:
            return http.client.HTTPConnection(address, timeout=10)
        return http.client.HTTPSConnection(address, timeout=10, context=trust)

    with fleet_front(address, f"127.0.0.1:{inner.server_address[1]}", keys):
        yield connect, inner, address
    inner.shutdown()
    inner.server_close()


def test_calls_of_supernodes_pass_whole(front):
    connect, inner, _ = front
    connection = connect()
    for body in (b"", b"abc", bytes(range(256)) * 5000):
        connection.request("POST", "/v1/fleet/pull-messages", body, {"X-Signature": "s"})
        answer = connection.getresponse()
        assert (answer.status, answer.headers["X-Kept"], answer.read()) == (200, "yes", body[::-1])
    assert inner.seen == [("/v1/fleet/pull-messages", "s")] * 3
    connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/register-node", "/v1/runtime/acquire-task", "/", "/v1/fleet", "/v1/fleet/", "/v1/fleet/../control/x",
        "/v1/fleet/a/../../control/x", "/v1/fleet/%2e%2e/control/x", "/v1/fleet/a?b", "http://h/v1/fleet/a",
    ],
)  # fmt: skip
def test_nothing_else_does(front, path):
    connect, inner, _ = front
    connection = connect()
    connection.request("POST", path, b"abc")
    assert connection.getresponse().status == 404
    connection.close()
    assert inner.seen == []


def test_other_methods_sizes_and_noise_are_refused(front):
    connect, inner, address = front
    for method in ("GET", "PUT", "DELETE"):
        connection = connect()
        connection.request(method, "/v1/fleet/pull-messages")
        assert connection.getresponse().status == 501
        connection.close()
    for length, status in (("x", 411), ("-1", 411), (str(1 << 40), 413)):
        connection = connect()
        connection.putrequest("POST", "/v1/fleet/pull-messages")
        connection.putheader("Content-Length", length)
        connection.endheaders()
        assert connection.getresponse().status == status
        connection.close()
    host, _, number = address.partition(":")
    with socket.create_connection((host, int(number))) as raw:
        raw.sendall(b"\x16\x03\x01 no handshake\r\n\r\n")
    assert inner.seen == []
    test_calls_of_supernodes_pass_whole(front)  # and it goes on


def test_a_silent_stranger_gives_its_place_back_and_a_member_keeps_it(front, monkeypatch):
    connect, _, address = front
    monkeypatch.setattr("saccade.split.fleet_front.STRANGER_S", 0.2)
    member = connect()
    for wait in (0, 1.0):
        time.sleep(wait)
        member.request("POST", "/v1/fleet/pull-messages", b"abc")
        assert member.getresponse().read() == b"cba"
    member.close()
    host, _, number = address.partition(":")
    with socket.create_connection((host, int(number)), timeout=10) as silent, contextlib.suppress(ConnectionResetError):
        assert silent.recv(1) == b""  # closed by the other side, not by the time-out of this one


def test_a_superlink_that_is_gone_is_said(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    with fleet_front(address, f"127.0.0.1:{free_port()}", None):
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("POST", "/v1/fleet/pull-messages", b"abc")
        assert connection.getresponse().status == 502
        connection.close()
    taken = socket.create_server(("127.0.0.1", int(address.rpartition(":")[2])))
    with taken, pytest.raises(OSError, match="in use"), fleet_front(address, "127.0.0.1:1", None):
        pass
