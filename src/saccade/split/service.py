"""The split server: one bidirectional stream a client, every request answered, raw bytes in both directions."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

from saccade.optional import need
from saccade.split import wire
from saccade.split.audit_log import AuditLog
from saccade.split.keys import Identity, token_fits
from saccade.split.rounds import Rounds, Session
from saccade.split.wire import Kind, Message, Refused

METHOD = "/saccade.split/Stream"
FIRST_S = 15.0  # within which a peer must have said who it is
WAIT_S = 20.0  # that a client without a round waits before it asks again
FAILURES = 20  # refused greetings of one peer a minute


class Service:
    """Serves ``rounds`` on ``address``. identity: keys and secret, None for a plain line without tokens (tests, one machine).

    clients: names that may come, and their place in the order of things. most_bytes: of a message. steps_per_s:
    fastest that a client is answered.
    """

    def __init__(
        self,
        rounds: Rounds,
        clients: list[str],
        model_hash: str,
        run: str,
        seed: int,
        most_bytes: int,
        identity: Identity | None = None,
        log: AuditLog | None = None,
        steps_per_s: float = 1000.0,
    ) -> None:
        self.rounds, self.clients, self.model_hash, self.run, self.seed = rounds, clients, model_hash, run, seed
        self.most_bytes, self.identity, self.log, self.steps_per_s = (
            most_bytes,
            identity,
            log or AuditLog(),
            steps_per_s,
        )
        self._failures: dict[str, list[float]] = {}
        self._lock = threading.Lock()
        self._server: Any = None
        self.port = 0

    def start(self, address: str) -> int:
        """Listen. Returns the port. Raises OSError if the address is taken."""
        grpc = need("grpc", "split")
        workers = 2 * len(self.clients) + 8
        self._server = grpc.server(
            futures.ThreadPoolExecutor(workers),
            maximum_concurrent_rpcs=workers,
            options=[
                ("grpc.max_receive_message_length", self.most_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", 8192),
                ("grpc.keepalive_time_ms", 20_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
                ("grpc.so_reuseport", 0),
            ],
        )
        service, _, method = METHOD.strip("/").partition("/")
        handler = grpc.stream_stream_rpc_method_handler(self._stream)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        try:
            if self.identity is None:
                self.port = self._server.add_insecure_port(address)
            else:
                pair = ((self.identity.key, self.identity.certificate),)
                credentials = grpc.ssl_server_credentials(pair, self.identity.authority, require_client_auth=True)
                self.port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"{address}: cannot listen there ({' '.join(str(error).split())[:120]})") from None
        self._server.start()
        return self.port

    def stop(self, grace_s: float = 1.0) -> None:
        if self._server is not None:
            self._server.stop(grace_s).wait()

    def _stream(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """One connection. Whatever is wrong with a peer ends it with a typed refusal, and harms nobody else."""
        peer, client = str(context.peer()), None
        late = threading.Timer(FIRST_S, context.cancel)
        late.daemon = True
        late.start()
        try:
            self._slow_down(peer)
            client, session, reply = self._greet(next(requests), context)
            late.cancel()
            self.rounds.arrived(client)
            self.log.write("connected", peer=peer, client=client)
            yield wire.encode(reply)
            yield from self._serve(client, session, requests)
        except Refused as error:
            if client is None and error.code != "TOO_FAST":
                with self._lock:
                    self._failures.setdefault(peer.rpartition(":")[0], []).append(time.monotonic())
            self.log.write("refused", peer=peer, client=client, code=error.code, words=str(error)[:200])
            yield wire.encode(wire.rejection(error))
        except StopIteration:  # gone before it said anything
            pass
        finally:
            late.cancel()
            if client is not None:
                self.rounds.left(client)
                self.log.write("left", peer=peer, client=client)

    def _slow_down(self, peer: str) -> None:
        host, now = peer.rpartition(":")[0], time.monotonic()
        with self._lock:
            recent = [at for at in self._failures.get(host, []) if now - at < 60]
            if recent or host in self._failures:
                self._failures[host] = recent
            if not recent:
                self._failures.pop(host, None)
        if len(recent) >= FAILURES:
            raise Refused("TOO_FAST", f"{len(recent)} refused greetings within a minute")

    def _greet(self, data: bytes, context: Any) -> tuple[str, Session | None, Message]:
        hello = wire.decode(data, 65536)
        meta = hello.meta
        if hello.kind != Kind.HELLO or hello.blobs:
            raise Refused("MALFORMED", f"{hello.kind.name} where HELLO is due")
        client = meta.get("client")
        if not isinstance(client, str) or client not in self.clients:
            raise Refused("NOT_INVITED", "no client of this federation")
        if self.identity is not None:
            if not token_fits(self.identity.secret, self.identity.run, client, meta.get("token")):
                raise Refused("BAD_TOKEN", f"the token is not that of {client} in this federation")
            names = [name.decode("utf-8", "replace") for name in context.auth_context().get("x509_common_name", [])]
            if names != [client]:
                raise Refused("BAD_TOKEN", f"the certificate is not that of {client}")
        if meta.get("run") not in (None, self.run):
            raise Refused("WRONG_RUN", "another run than the one that is served here")
        if meta.get("model") != self.model_hash:
            raise Refused("MODEL_MISMATCH", f"{client} has another model: its weights are not the server's")
        session = None
        if meta.get("session") is not None:
            session = self.rounds.again(client, meta["session"])
        elif meta.get("round") is not None:
            if type(meta["round"]) is not int or type(meta.get("epoch")) is not int:
                raise Refused("MALFORMED", "a round that is no number")
            session = self.rounds.join(client, meta["round"], meta["epoch"])
        accept = {
            "run": self.run,
            "seed": self.seed,
            "index": self.clients.index(client),
            "session": None if session is None else session.nonce,
        }
        message = Message(Kind.ACCEPT, 0, accept)
        self.rounds.book("up", hello, len(data))
        self.rounds.book("down", message, wire.size(message))
        return client, session, message

    def _serve(self, client: str, session: Session | None, requests: Iterator[bytes]) -> Iterator[bytes]:
        spare, at = 2.0, time.monotonic()  # of a bucket that fills with steps_per_s
        for data in requests:
            now = time.monotonic()
            spare, at = min(2.0 + self.steps_per_s / 10, spare + (now - at) * self.steps_per_s), now
            if spare < 1:
                time.sleep((1 - spare) / self.steps_per_s)
            spare -= 1
            message = wire.decode(data, self.most_bytes)
            if message.kind == Kind.WAIT:
                reply, new = self.rounds.next_round(client, WAIT_S)
                if new is not None:
                    session = new
                    reply = Message(reply.kind, message.seq, reply.meta | {"session": new.nonce}, reply.blobs)
                else:
                    reply = Message(reply.kind, message.seq)
                self.rounds.book("up", message, len(data))
            elif session is None:
                raise Refused("BAD_SEQUENCE", f"{message.kind.name} where no round is under way")
            else:
                self.rounds.book("up", message, len(data))
                last = message.kind == Kind.UPDATE  # which may end the round: booked before that
                if last:
                    self.rounds.book("down", Message(Kind.DONE), wire.size(Message(Kind.DONE)))
                reply = self.rounds.handle(client, session, message)
                if last:
                    self.log.write("update", client=client, round=session.terms.round)
            answer = wire.encode(reply)
            if message.kind != Kind.UPDATE:
                self.rounds.book("down", reply, len(answer))
            yield answer
