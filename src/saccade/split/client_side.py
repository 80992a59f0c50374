"""The client's half of its round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from saccade.split.codecs import Feedback
from saccade.split.lora import Adapted
from saccade.split.parts import split_causal_lm, token_loss
from saccade.split.privacy import PrivacyFilter
from saccade.split.terms import Terms, Trainer, tensor_blob
from saccade.split.text import IGNORED, Batches
from saccade.split.wire import Blob, Kind, Message, Refused, Role

NO_FILTER = PrivacyFilter()
Exchange = Callable[[Message], Message]


@dataclass
class Tally:
    """What a client's round came to: labels learnt from, their summed loss in nats, how many came out on top."""

    steps: int = 0
    tokens: int = 0
    right: int = 0
    loss_sum: float = 0.0
    dropped: int = 0

    def add(self, loss: float, tokens: int, right: int) -> None:
        self.steps += 1
        self.tokens += tokens
        self.right += right
        self.loss_sum += loss * tokens


class ClientSide:
    """Runs a client's steps against whatever answers its messages.

    noise: where the privacy filter draws from; a deployed client's own secret, or the server could take the noise off again.
    """

    def __init__(
        self,
        adapted: Adapted,
        terms: Terms,
        privacy: PrivacyFilter = NO_FILTER,
        noise: torch.Generator | None = None,
    ) -> None:
        self.adapted, self.terms, self.privacy = adapted, terms, privacy
        self.noise = noise or torch.Generator()
        parts = split_causal_lm(adapted.model, terms.cut, terms.tail)
        self.front, self.back = parts.front, parts.back if terms.tail is not None else None
        self.trainer = Trainer(adapted, terms.client_blocks, terms)
        self.sender = Feedback(terms.gradients, terms.feedback)
        self.tally = Tally()
        self.seq = 0

    def step(self, x: Tensor, labels: Tensor, exchange: Exchange) -> None:
        """One batch ``[N, L]``. What is not finite on either side is dropped and counted. Raises Refused as the
        server does."""
        mask = None if self.terms.pack else labels != IGNORED
        h = self.privacy.apply(self.front(x, mask), self.noise)
        try:
            payload = self.terms.activations.encode(h)
        except ValueError:
            self._drop()
            return
        blobs = [tensor_blob(Role.ACTIVATIONS, payload, h)]
        if self.back is None:
            blobs.append(Blob(Role.LABELS, tuple(labels.shape), labels.numpy().astype("<i4").tobytes()))
        if mask is not None:
            blobs.append(Blob(Role.MASK, tuple(mask.shape), np.packbits(mask.numpy()).tobytes()))
        reply = self._exchange(Message(Kind.STEP, self.seq + 1, {}, blobs), exchange)
        meta = reply.meta
        if self.back is not None and reply.kind == Kind.MIDDLE:
            reply, meta = self._finish(reply, labels, mask, exchange)
        if reply.kind != Kind.GRADIENT:
            raise Refused("BAD_SEQUENCE", f"the server answered with {reply.kind.name}")
        if reply.meta.get("dropped"):
            self._drop()
            return
        h.backward(self._hidden(reply, Role.GRADIENTS))  # type: ignore[no-untyped-call]
        if not self.trainer.step():
            self._drop()
            return
        self.tally.add(*_numbers(meta))

    def _finish(
        self, reply: Message, labels: Tensor, mask: Tensor | None, exchange: Exchange
    ) -> tuple[Message, dict[str, float]]:
        """The last part of a U-shape: its loss never leaves but as the sums of a round."""
        assert self.back is not None
        h = self._hidden(reply, Role.ACTIVATIONS).requires_grad_()
        loss, tokens, right = token_loss(self.back(h, mask), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        assert h.grad is not None
        try:
            blobs, meta = [tensor_blob(Role.GRADIENTS, self.sender.encode(h.grad), h)], {}
        except ValueError:
            blobs, meta = [], {"dropped": True}
        answer = self._exchange(Message(Kind.MIDDLE_GRADIENT, self.seq + 1, meta, blobs), exchange)
        return answer, {"loss": loss.item(), "tokens": tokens, "right": right}

    def _exchange(self, message: Message, exchange: Exchange) -> Message:
        reply = exchange(message)
        if reply.seq != message.seq:
            raise Refused("BAD_SEQUENCE", f"the server answered message {reply.seq} where {message.seq} was sent")
        self.seq = message.seq
        return reply

    def _hidden(self, reply: Message, role: Role) -> Tensor:
        if [blob.role for blob in reply.blobs] != [role] or reply.blobs[0].shape != self.terms.shape:
            raise Refused(
                "BAD_SHAPE", f"the server answered with something else than {role.name} of {self.terms.shape}"
            )
        codec = self.terms.activations if role == Role.ACTIVATIONS else self.terms.gradients
        try:
            return codec.decode(reply.blobs[0].payload, self.terms.shape)
        except ValueError as error:
            raise Refused("BAD_SHAPE", f"the server's {role.name}: {error}") from None

    def _drop(self) -> None:
        self.trainer.clear()
        self.tally.dropped += 1

    def run(self, batches: Batches, exchange: Exchange, steps: int | None = None) -> Tally:
        """The steps of the round; which batches those are depends on the round's number alone."""
        first = self.terms.round * self.terms.steps
        for step in range(self.terms.steps if steps is None else steps):
            self.step(*batches.at(first + step), exchange)
        return self.tally


def whole_round(adapted: Adapted, terms: Terms, batches: Batches, steps: int | None = None) -> Tally:
    """A round of a client that holds the whole model: nothing is sent but adapters."""
    trainer, tally = Trainer(adapted, range(len(terms.ranks)), terms), Tally()
    parts = split_causal_lm(adapted.model, 1)
    for step in range(terms.steps if steps is None else steps):
        x, labels = batches.at(terms.round * terms.steps + step)
        loss, tokens, right = token_loss(parts.forward(x, None if terms.pack else labels != IGNORED), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        if trainer.step():
            tally.add(loss.item(), tokens, right)
        else:
            tally.dropped += 1
    return tally


def _numbers(meta: dict[str, float]) -> tuple[float, int, int]:
    loss, tokens, right = meta.get("loss"), meta.get("tokens"), meta.get("right")
    if not isinstance(loss, int | float) or not isinstance(tokens, int) or not isinstance(right, int):
        raise Refused("MALFORMED", "the server's answer lacks loss and counts")
    return float(loss), tokens, right
