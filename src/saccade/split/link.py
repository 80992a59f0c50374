"""A client's line to the split server: asks, is answered, and finds its session again when the line breaks."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from saccade.optional import need
from saccade.split import wire
from saccade.split.keys import Identity
from saccade.split.ledger import Ledger
from saccade.split.service import METHOD
from saccade.split.wire import Kind, Message, raise_if_rejected

LARGEST = 1 << 30  # bytes of an answer


class RoundLost(Exception):
    """The server does not know the round any more: begin again."""


class Link:
    """hello: what the client says of itself. retry_s: for how long a line that breaks is tried again, and a server
    awaited."""

    def __init__(
        self,
        address: str,
        hello: dict[str, Any],
        identity: Identity | None = None,
        retry_s: float = 300.0,
        answer_s: float = 120.0,
        tell: Callable[[str], None] = lambda words: None,
    ) -> None:
        self.address, self.hello, self.identity = address, hello, identity
        self.retry_s, self.answer_s, self.tell = retry_s, answer_s, tell
        self.ledger = Ledger()
        self.accepted: dict[str, Any] = {}
        self.session: str | None = None
        self.connections = 0
        self._told = ""
        self._channel: Any = None
        self._call: Any = None
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def exchange(self, message: Message) -> Message:
        """The answer. Raises Refused where the server refuses, RoundLost where it has forgotten, OSError where it
        stays away."""
        data, until, wait = wire.encode(message), time.monotonic() + self.retry_s, 0.1
        while True:
            try:
                if self._call is None:
                    self._connect()
                answer = self._send(message, data)
                if answer.kind == Kind.ROUND:
                    self.session = str(answer.meta.get("session"))
                return answer
            except (_Broken, need("grpc", "split").RpcError) as error:
                words = self._words(error)
                self.close()
                if "handshake" in words.lower() or "certificate" in words.lower():
                    raise OSError(f"{self.address}: refuses the connection's certificates ({words})") from None
                if time.monotonic() > until:
                    raise OSError(f"{self.address}: no answer for {self.retry_s:.0f} s ({words})") from None
                if self._told != words:
                    self.tell(
                        f"{self.address}: {'the line broke' if self.connections else 'not there yet'} ({words}); trying again"
                    )
                    self._told = words
                time.sleep(wait)
                wait = min(2 * wait, 5.0)

    def _connect(self) -> None:
        grpc = need("grpc", "split")
        options = [
            ("grpc.max_receive_message_length", LARGEST),
            ("grpc.max_send_message_length", -1),
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if self.identity is None:
            self._channel = grpc.insecure_channel(self.address, options)
        else:
            i = self.identity
            credentials = grpc.ssl_channel_credentials(i.authority, i.key, i.certificate)
            self._channel = grpc.secure_channel(self.address, credentials, options)
        self._outgoing = queue.SimpleQueue()
        self._call = self._channel.stream_stream(METHOD)(self._requests(self._outgoing))
        had = self.session
        meta = {**self.hello, "session": had} if had is not None else dict(self.hello)
        if self.identity is not None:
            meta["token"] = self.identity.secret.decode("ascii", "replace")
        hello = Message(Kind.HELLO, 0, meta)
        self.accepted = self._send(hello, wire.encode(hello)).meta
        self.connections += 1
        self.session = self.accepted.get("session")
        if had is not None and self.session != had:
            raise RoundLost

    @staticmethod
    def _requests(outgoing: queue.SimpleQueue[bytes | None]) -> Iterator[bytes]:
        while (data := outgoing.get()) is not None:
            yield data

    def _send(self, message: Message, data: bytes) -> Message:
        self._outgoing.put(data)
        timer = threading.Timer(self.answer_s, self._call.cancel)  # of a frozen server
        timer.daemon = True
        timer.start()
        try:
            raw = next(self._call)
        except StopIteration:
            raise _Broken("the server ended the stream") from None
        finally:
            timer.cancel()
        answer = wire.decode(raw, LARGEST)
        self.ledger.add("up", message, len(data))
        self.ledger.add("down", answer, len(raw))
        if answer.kind == Kind.REJECT and answer.meta.get("code") == "STALE_ROUND":
            self.close()
            self.session = None
            raise RoundLost
        raise_if_rejected(answer)
        return answer

    @staticmethod
    def _words(error: Exception) -> str:
        details = getattr(error, "details", None)
        words = details() if callable(details) else str(error)
        return " ".join(str(words).split())[:160]

    def close(self) -> None:
        """End the connection; ``exchange`` opens another."""
        self._outgoing.put(None)
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None


class _Broken(Exception):
    pass
