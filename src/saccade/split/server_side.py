"""The server's half of a client's round."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from saccade.split.codecs import Feedback
from saccade.split.lora import Adapted
from saccade.split.parts import split_causal_lm, token_loss
from saccade.split.terms import Terms, Trainer, tensor_blob
from saccade.split.text import IGNORED
from saccade.split.wire import Blob, Kind, Message, Refused, Role


class ServerSide:
    """Answers a client's messages, one after another. The answer to the newest is kept: a client that lost its connection may
    send that message again and nothing happens twice.

    trainer: of the server's adapters; one of this client's own (V1), or one that all share (V2).
    """

    def __init__(self, adapted: Adapted, terms: Terms, trainer: Trainer, poison: int = 5) -> None:
        self.adapted, self.terms, self.trainer, self.poison = adapted, terms, trainer, poison
        parts = split_causal_lm(adapted.model, terms.cut, terms.tail)
        self.part = parts.of_server()[0]
        self.vocabulary = int(adapted.family.config.vocab_size)
        self.sender = Feedback(terms.gradients, terms.feedback)
        self.seq = 0
        self.steps = self.tokens = self.right = self.dropped = 0
        self.loss_sum = 0.0
        self._reply: Message | None = None
        self._pending: tuple[Tensor, Tensor] | None = None  # of a U-shape, between the two halves of a step

    def handle(self, message: Message) -> Message:
        """The answer. Raises Refused for what does not follow, does not fit the terms, or is the last of too many
        bad batches."""
        if message.seq == self.seq and self._reply is not None:
            return self._reply
        if message.seq != self.seq + 1:
            raise Refused("BAD_SEQUENCE", f"message {message.seq} where {self.seq + 1} is due")
        due = Kind.MIDDLE_GRADIENT if self._pending is not None else Kind.STEP
        if message.kind != due:
            raise Refused("BAD_SEQUENCE", f"a message of the kind {message.kind.name} where {due.name} is due")
        try:
            if message.kind == Kind.MIDDLE_GRADIENT:
                reply = self._middle_gradient(message)
            elif self.terms.tail is None:
                reply = self._step(message)
            else:
                reply = self._middle(message)
        except _Poisoned as error:
            self._pending = None
            self.trainer.clear()
            self.dropped += 1
            if self.dropped > self.poison:
                raise Refused("EVICTED", f"{self.dropped} batches dropped in this round ({error})") from None
            reply = Message(Kind.GRADIENT, message.seq, {"dropped": str(error)})
        self.seq, self._reply = message.seq, reply
        return reply

    def _step(self, message: Message) -> Message:
        blobs = self._blobs(message, Role.ACTIVATIONS, Role.LABELS)
        h, mask = self._hidden(blobs, Role.ACTIVATIONS), self._mask(blobs)
        labels = self._labels(blobs)
        h.requires_grad_()
        loss, tokens, right = token_loss(self.part(h, mask), labels)
        self._backward(loss, None)
        reply = self._gradient(message, h, {"loss": loss.item(), "tokens": tokens, "right": right})
        self.loss_sum += loss.item() * tokens
        self.tokens += tokens
        self.right += right
        return reply

    def _middle(self, message: Message) -> Message:
        blobs = self._blobs(message, Role.ACTIVATIONS)
        h = self._hidden(blobs, Role.ACTIVATIONS).requires_grad_()
        out = self.part(h, self._mask(blobs))
        payload = self._encoded(self.terms.activations.encode, out)
        self._pending = (h, out)
        return Message(Kind.MIDDLE, message.seq, {}, [tensor_blob(Role.ACTIVATIONS, payload, out)])

    def _middle_gradient(self, message: Message) -> Message:
        assert self._pending is not None
        (h, out), self._pending = self._pending, None
        if message.meta.get("dropped"):  # the client's own half came to nothing
            raise _Poisoned("the client dropped it")
        gradient = self._hidden(self._blobs(message, Role.GRADIENTS), Role.GRADIENTS)
        self._backward(out, gradient)
        return self._gradient(message, h, {})

    def _backward(self, out: Tensor, gradient: Tensor | None) -> None:
        if not bool(torch.isfinite(out).all()):
            raise _Poisoned("a loss that is not finite")
        out.backward(gradient)  # type: ignore[no-untyped-call]

    def _gradient(self, message: Message, h: Tensor, meta: dict[str, float]) -> Message:
        assert h.grad is not None
        payload = self._encoded(self.sender.encode, h.grad)
        if not self.trainer.step():
            raise _Poisoned("a gradient that is not finite")
        self.steps += 1
        return Message(Kind.GRADIENT, message.seq, dict(meta), [tensor_blob(Role.GRADIENTS, payload, h)])

    def _encoded(self, encode, x: Tensor) -> bytes:  # type: ignore[no-untyped-def]
        try:
            return encode(x)
        except ValueError as error:
            raise _Poisoned(str(error)) from None

    def _blobs(self, message: Message, *roles: Role) -> dict[Role, Blob]:
        wanted = [*roles, *([] if self.terms.pack or Role.ACTIVATIONS not in roles else [Role.MASK])]
        if [blob.role for blob in message.blobs] != wanted:
            raise Refused("BAD_SHAPE", f"{message.kind.name} with tensors other than {[role.name for role in wanted]}")
        return {blob.role: blob for blob in message.blobs}

    def _hidden(self, blobs: dict[Role, Blob], role: Role) -> Tensor:
        blob, codec = blobs[role], self.terms.activations if role == Role.ACTIVATIONS else self.terms.gradients
        if blob.shape != self.terms.shape:
            raise Refused("BAD_SHAPE", f"{list(blob.shape)} where {list(self.terms.shape)} was agreed")
        least, most = codec.sizes(blob.shape)
        if not least <= len(blob.payload) <= most:
            raise Refused("BAD_SHAPE", f"{len(blob.payload)} bytes are no {list(blob.shape)} in the agreed codec")
        try:
            return codec.decode(blob.payload, blob.shape)
        except ValueError as error:
            raise _Poisoned(str(error)) from None

    def _labels(self, blobs: dict[Role, Blob]) -> Tensor:
        blob, shape = blobs[Role.LABELS], self.terms.shape[:2]
        if blob.shape != shape or len(blob.payload) != 4 * shape[0] * shape[1]:
            raise Refused("BAD_SHAPE", f"labels of {list(blob.shape)} where {list(shape)} was agreed")
        labels = torch.from_numpy(np.frombuffer(blob.payload, "<i4").astype(np.int64).reshape(shape))
        counted = labels != IGNORED
        if bool(((labels < 0) | (labels >= self.vocabulary))[counted].any()) or not bool(counted.any()):
            raise _Poisoned("labels that are no tokens of this model")
        return labels

    def _mask(self, blobs: dict[Role, Blob]) -> Tensor | None:
        blob, shape = blobs.get(Role.MASK), self.terms.shape[:2]
        if blob is None:
            return None
        if blob.shape != shape or len(blob.payload) != (shape[0] * shape[1] + 7) // 8:
            raise Refused("BAD_SHAPE", f"a mask of {list(blob.shape)} where {list(shape)} was agreed")
        bits = np.unpackbits(np.frombuffer(blob.payload, "u1"), count=shape[0] * shape[1])
        mask = torch.from_numpy(bits.astype(bool).reshape(shape))
        if bool((mask[:, 1:] & ~mask[:, :-1]).any()) or not bool(mask[:, 0].all()):
            raise _Poisoned("a mask with holes")
        return mask


class _Poisoned(ValueError):
    """A batch that is left out."""
