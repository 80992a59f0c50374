"""A spiking classifier, cut in two and trained across the cut with the codecs, messages and ledger of saccade.split.

    python examples/split_spiking.py

The client holds the first layers and the images, the server the rest and the labels. What crosses the cut are spikes: zeros and
ones, which four bits carry exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saccade.layers import Linear
from saccade.neurons import LIFConfig
from saccade.split import CODECS, Ledger
from saccade.split.wire import Blob, Kind, Message, Role, decode, encode


def halves(seed: int = 0) -> tuple[nn.Module, nn.Module]:
    """``[T, N, 64]`` to spikes ``[T, N, 48]``, and those to logits ``[T, N, 10]``."""
    torch.manual_seed(seed)
    front = nn.Sequential(Linear(64, 48), LIFConfig().build(channels=48))
    back = nn.Sequential(Linear(48, 32), LIFConfig().build(channels=32), Linear(32, 10))
    return front, back


def across(message: Message, way: str, ledger: Ledger) -> Blob:
    """A message as the other side reads it, and its bytes in the book."""
    data = encode(message)
    read = decode(data, 1 << 20)
    ledger.add(way, read, len(data))
    return read.blobs[0]


def step(front: nn.Module, back: nn.Module, x: Tensor, labels: Tensor, codec: str, ledger: Ledger) -> float:
    """One batch across the cut: gradients are left in both halves. Returns the loss in nats."""
    spikes = front(x)
    up = across(
        Message(Kind.STEP, 1, {}, [Blob(Role.ACTIVATIONS, tuple(spikes.shape), CODECS[codec].encode(spikes))]),
        "up",
        ledger,
    )
    received = CODECS[codec].decode(up.payload, up.shape).requires_grad_()
    loss = nn.functional.cross_entropy(back(received).mean(0), labels)
    loss.backward()
    assert received.grad is not None
    down = across(
        Message(Kind.GRADIENT, 1, {}, [Blob(Role.GRADIENTS, up.shape, CODECS["fp32"].encode(received.grad))]),
        "down",
        ledger,
    )
    spikes.backward(CODECS["fp32"].decode(down.payload, down.shape))
    return float(loss.detach())


def main() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(10, (128,), generator=generator)
    x = 3 * torch.randn(10, 64, generator=generator)[labels] + torch.randn(4, 128, 64, generator=generator)
    for codec in ("fp32", "int4"):
        front, back = halves()
        optimizer = torch.optim.Adam([*front.parameters(), *back.parameters()], lr=1e-2)
        ledger = Ledger()
        for _ in range(40):
            loss = step(front, back, x, labels, codec, ledger)
            optimizer.step()
            optimizer.zero_grad()
        print(f"{codec}: loss {loss:.3f} nats, activations {ledger.total(kind='activations') / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
