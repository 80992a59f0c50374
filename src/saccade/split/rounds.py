"""A round as the server sees it while it runs: who is asked, who is connected, whose half is where.

Engines open a round and collect it; whatever carries messages (a stream, a test) asks for sessions and hands messages in.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from saccade.split.client_side import Tally
from saccade.split.federation import Update
from saccade.split.ledger import Ledger
from saccade.split.lora import Adapted, Adapters, LoraPlan, block_of
from saccade.split.messages import read_update, round_message
from saccade.split.server_side import ServerSide
from saccade.split.terms import Terms, Trainer
from saccade.split.wire import Kind, Message, Refused


@dataclass
class Session:
    """A client's round on the server. nonce: names it, so that a connection that was lost finds it again.

    side: None once the update is taken: its model serves the next, so that a round holds as many as train at once.
    """

    terms: Terms
    handed: Adapters
    side: ServerSide | None
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    lock: threading.Lock = field(default_factory=threading.Lock)


class Rounds:
    """The round under way, for many threads.

    base, plan: of the model. poison: dropped batches after which a client is put out of the round.
    """

    def __init__(self, base: nn.Module, plan: LoraPlan, poison: int = 5) -> None:
        self.base, self.plan, self.poison = base, plan, poison
        self.terms: dict[str, Terms] = {}
        self.updates: dict[str, Update] = {}
        self.sessions: dict[str, Session] = {}
        self.ledger = Ledger()
        self.states: dict[str, str] = {}
        self.over = False
        self._handed: dict[str, Adapters] = {}
        self._weights: Mapping[str, Tensor] = {}
        self._out: set[str] = set()
        self._online: dict[str, int] = {}
        self._left_at: dict[str, float] = {}
        self._free: dict[tuple[int, ...], list[Adapted]] = {}
        self._shared: tuple[Adapted, Trainer] | None = None
        self._serving = threading.Lock()  # V2: one step at a time
        self._changed = threading.Condition()

    # engines

    def open(
        self,
        terms: Mapping[str, Terms],
        handed: Mapping[str, Adapters],
        weights: Mapping[str, Tensor],
        shared: Adapters | None = None,
        shared_ranks: tuple[int, ...] = (),
    ) -> None:
        """Begin a round. shared, shared_ranks: V2's adapters of the server."""
        with self._changed:
            for session in self.sessions.values():
                if session.lock.acquire(blocking=False):  # else a step of it is still under way
                    self._give_back(session)
                    session.lock.release()
            self.terms, self._handed, self._weights = dict(terms), dict(handed), weights
            self.updates, self.sessions, self._out = {}, {}, set()
            self._shared = None
            if shared is not None and terms:
                adapted = self._take(shared_ranks)
                adapted.load(shared)
                self._shared = adapted, Trainer(adapted, range(len(shared_ranks)), next(iter(terms.values())))
            self.states |= {name: "asked" for name in terms}
            self._changed.notify_all()

    def collect(self, deadline_s: float | None, patience_s: float) -> tuple[dict[str, Update], Adapters | None, Ledger]:
        """Wait for the round's clients: until all are done, the deadline is over, or the missing have been away for
        ``patience_s`` seconds. Ends the round. Returns ``(updates, V2's adapters, bytes)``."""
        began = time.monotonic()
        with self._changed:
            while True:
                missing = [name for name in self.terms if name not in self.updates and name not in self._out]
                now = time.monotonic()
                if not missing or (deadline_s is not None and now - began > deadline_s):
                    break
                away = [
                    n
                    for n in missing
                    if not self._online.get(n) and now - max(self._left_at.get(n, began), began) > patience_s
                ]
                if len(away) == len(missing):
                    break
                self._changed.wait(0.2)
            for name in self.terms:
                if name not in self.updates:
                    self.states[name] = "left out"
            updates, ledger, self.ledger = dict(self.updates), self.ledger, Ledger()
            shared = None
            if self._shared is not None:
                with self._serving:
                    shared = self._shared[0].read()
            self.terms = {}
            return updates, shared, ledger

    def end(self) -> None:
        """No more rounds."""
        with self._changed:
            self.over, self.terms = True, {}
            self._changed.notify_all()

    def settle(self, seconds: float) -> None:
        """Give connected clients the time to hear the end and leave."""
        until = time.monotonic() + seconds
        with self._changed:
            while any(self._online.values()) and time.monotonic() < until:
                self._changed.wait(0.2)

    def wait_for(self, names: list[str], seconds: float) -> list[str]:
        """Until all of them are connected, or the time is over. Returns who is."""
        until = time.monotonic() + seconds
        with self._changed:
            while True:
                here = [name for name in names if self._online.get(name)]
                left = until - time.monotonic()
                if len(here) == len(names) or left <= 0 or self.over:
                    return here
                self._changed.wait(min(left, 0.5))

    # connections

    def arrived(self, client: str) -> None:
        with self._changed:
            self._online[client] = self._online.get(client, 0) + 1
            self.states.setdefault(client, "connected")
            self._changed.notify_all()

    def left(self, client: str) -> None:
        with self._changed:
            self._online[client] = self._online.get(client, 1) - 1
            self._left_at[client] = time.monotonic()
            if not self._online[client] and self.states.get(client) != "done":
                self.states[client] = "away"
            self._changed.notify_all()

    def next_round(self, client: str, seconds: float) -> tuple[Message, Session | None]:
        """The client's round once there is one (``ROUND``, and it begins anew whatever was before), ``END`` or
        ``WAIT``."""
        until = time.monotonic() + seconds
        with self._changed:
            while not self.over:
                if client in self.terms and client not in self.updates and client not in self._out:
                    session = self._begin(client)
                    own = {s: p for s, p in session.handed.items() if block_of(s) in session.terms.client_blocks}
                    weights = {s: w for s, w in self._weights.items() if block_of(s) in session.terms.client_blocks}
                    return round_message(session.terms, own, weights), session
                left = until - time.monotonic()
                if left <= 0:
                    return Message(Kind.WAIT), None
                self._changed.wait(left)
            return Message(Kind.END), None

    def begin_for(self, client: str) -> Message:
        """The round of a client whose terms and adapters go another way than the stream; it joins with them."""
        with self._changed:
            terms, handed = self.terms[client], self._handed[client]
            own = {s: p for s, p in handed.items() if block_of(s) in terms.client_blocks}
            weights = {s: w for s, w in self._weights.items() if block_of(s) in terms.client_blocks}
            return round_message(terms, own, weights)

    def join(self, client: str, round: int, epoch: int) -> Session:
        """A session for a client that has its terms already. Raises Refused for another round or plan than the one
        under way."""
        with self._changed:
            terms = self.terms.get(client)
            if terms is None or terms.round != round or client in self.updates:
                raise Refused("STALE_ROUND", f"round {round} is not under way for {client}")
            if terms.epoch != epoch:
                raise Refused("STALE_CUT", f"plan {epoch} is old: the cuts are those of plan {terms.epoch}")
            return self._begin(client)

    def again(self, client: str, nonce: object) -> Session | None:
        """The session that a lost connection had, if it is still under way."""
        with self._changed:
            session = self.sessions.get(client)
            fits = session is not None and session.nonce == nonce and client in self.terms and client not in self._out
            return session if fits else None

    def handle(self, client: str, session: Session, message: Message) -> Message:
        """The answer to a step or an update. Raises Refused."""
        with session.lock:
            if self.sessions.get(client) is not session or client not in self.terms:
                raise Refused("STALE_ROUND", f"round {session.terms.round} is over for {client}")
            if message.kind == Kind.UPDATE:
                return self._finish(client, session, message)
            if session.side is None:
                raise Refused("BAD_SEQUENCE", f"{message.kind.name} after the update of {client}")
            try:
                if self._shared is None:
                    return session.side.handle(message)
                with self._serving:
                    return session.side.handle(message)
            except Refused as error:
                if error.code == "EVICTED":
                    with self._changed:
                        self._out.add(client)
                        self.states[client] = "put out"
                        self._changed.notify_all()
                raise

    def tell(self, client: str, session: Session, tally: Tally, adapters: Adapters) -> None:
        """Take a client's update that came another way."""
        with session.lock:
            self._keep(client, session, tally, adapters)

    def book(self, way: str, message: Message, size: int) -> None:
        with self._changed:
            self.ledger.add(way, message, size)

    # inside

    def _begin(self, client: str) -> Session:
        old = self.sessions.get(client)
        if old is not None and old.lock.acquire(blocking=False):
            self._give_back(old)
            old.lock.release()
        terms, handed = self.terms[client], self._handed[client]
        if self._shared is not None:
            adapted, trainer = self._shared
        else:
            adapted = self._take(terms.ranks)
            adapted.load(handed)
            trainer = Trainer(adapted, terms.server_blocks, terms)
        self.sessions[client] = Session(terms, handed, ServerSide(adapted, terms, trainer, self.poison))
        self.states[client] = "training"
        return self.sessions[client]

    def _finish(self, client: str, session: Session, message: Message) -> Message:
        if client in self.updates:  # the answer was lost
            return Message(Kind.DONE, message.seq)
        own = {s: p for s, p in session.handed.items() if block_of(s) in session.terms.client_blocks}
        tally, adapters = read_update(message, session.terms, own)
        if session.terms.tail is None:  # two parts: the server has seen for itself
            side = _open(session)
            if (tally.steps, tally.tokens) != (side.steps, side.tokens):
                raise Refused("MALFORMED", f"an update of {tally.tokens} tokens where {side.tokens} came")
        self._keep(client, session, tally, adapters)
        return Message(Kind.DONE, message.seq)

    def _keep(self, client: str, session: Session, tally: Tally, adapters: Adapters) -> None:
        if self._shared is None:
            served = _open(session).adapted.read(session.terms.server_blocks)
            adapters = {site: (served | adapters)[site] for site in session.handed}
        with self._changed:
            if client in self.terms and self.sessions.get(client) is session:
                self.updates[client] = Update(adapters, tally, session.terms)
                self.states[client] = "done"
                self._give_back(session)
                self._changed.notify_all()

    def _take(self, ranks: tuple[int, ...]) -> Adapted:
        free = self._free.setdefault(ranks, [])
        return free.pop() if free else Adapted(self.base, self.plan, ranks)

    def _give_back(self, session: Session) -> None:
        """Its model serves somebody else. The caller holds the session's lock: no step of it is under way."""
        if self._shared is None and session.side is not None:
            if sum(map(len, self._free.values())) > 2 * len(self._online) + 8:  # ranks that no longer come
                self._free.clear()
            self._free.setdefault(session.terms.ranks, []).append(session.side.adapted)
        session.side = None


def _open(session: Session) -> ServerSide:
    """The half of a session whose update is not taken yet."""
    if session.side is None:
        raise Refused("STALE_ROUND", f"round {session.terms.round} is done for {session.terms.client}")
    return session.side
