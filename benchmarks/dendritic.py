"""The scan of dendritic compartments along tokens, forward and backward, against what plain torch offers.

    python benchmarks/dendritic.py --threads 1 --allocator keep

All contenders compute the same: 8 compartments, shared by 512 channels, over 196 tokens of 8 sequences, with gradients of the
input and of all parameters. Each row has the largest relative difference of its output from the loop in float64.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from side_by_side import Case, Contender, run
from torch import Tensor

from saccade import kernels
from saccade.kernels.dendritic import by_fourier, impulse, loop
from saccade.neurons import DendriticScan

SHAPE, SMALL, COMPARTMENTS = (8, 196, 512), (2, 20, 16), 8
CHUNK = 28  # tokens whose factors stay within float32
Scan = Callable[[Tensor, Tensor], Tensor]  # [B, L, D] and pairs [4, P] to [B, L, D]


def turns(pairs: Tensor) -> tuple[Tensor, Tensor]:
    """The factor of each pair and its read-out, complex: ``y = Re sum (c - i d) z``."""
    return torch.complex(pairs[0], pairs[1]), torch.complex(pairs[2], -pairs[3])


def doubling(x: Tensor, pairs: Tensor) -> Tensor:
    """An associative scan (Hillis and Steele 1986): log2 L passes, each over all tokens."""
    turn, read = turns(pairs)
    z = x.unsqueeze(1).to(torch.complex64).expand(-1, len(turn), -1, -1)
    step = 1
    while step < x.shape[1]:
        shifted = torch.nn.functional.pad(z[:, :, :-step], (0, 0, step, 0))
        z = z + turn.view(1, -1, 1, 1) ** step * shifted
        step *= 2
    return (read.view(1, -1, 1, 1) * z).sum(1).real


def cumulative(x: Tensor, pairs: Tensor) -> Tensor:
    """``a^l cumsum(a^-l x)`` in chunks, so that the factors stay within range, and a loop over the chunks."""
    turn, read = turns(pairs)
    B, L, D = x.shape
    lags = torch.arange(CHUNK)
    powers = turn.view(1, -1, 1, 1) ** lags.view(1, 1, -1, 1)
    chunks = x.view(B, L // CHUNK, CHUNK, D).unbind(1)
    last = torch.zeros(B, len(turn), 1, D, dtype=torch.complex64)
    outputs = []
    for chunk in chunks:
        z = powers * (torch.cumsum(chunk.unsqueeze(1) / powers, 2) + turn.view(1, -1, 1, 1) * last)
        last = z[:, :, -1:]
        outputs.append((read.view(1, -1, 1, 1) * z).sum(1).real)
    return torch.cat(outputs, 1)


def product(x: Tensor, pairs: Tensor) -> Tensor:
    """One product with the L x L matrix of the impulse response: N^2, but a single call of BLAS."""
    length = x.shape[1]
    lags = torch.arange(length)[:, None] - torch.arange(length)
    matrix = torch.where(lags >= 0, impulse(pairs, length)[lags.clamp(min=0)], 0.0)
    return matrix @ x


SCANS: dict[str, Scan] = {
    "saccade": lambda x, pairs: kernels.dendritic(x, pairs)[0],
    "loop": lambda x, pairs: loop(x, pairs)[0],
    "FFT": by_fourier,
    "associative scan": doubling,
    "cumsum in chunks": cumulative,
    "matrix product": product,
}


def contenders(shape: tuple[int, ...], backward: bool) -> list[Contender]:
    torch.manual_seed(0)
    x, g = torch.randn(shape), torch.randn(shape)
    pairs = DendriticScan(COMPARTMENTS).pairs().detach()
    expected = loop(x.double(), pairs.double())[0]

    def contender(name: str, scan: Scan) -> Contender:
        def make() -> Callable[[], Tensor]:
            def forward() -> Tensor:
                with torch.no_grad():
                    return scan(x, pairs)

            def both() -> Tensor:
                mine, numbers = x.detach().requires_grad_(), pairs.detach().requires_grad_()
                y = scan(mine, numbers)
                y.backward(g)
                return y

            return both if backward else forward

        def facts(y: Tensor) -> dict[str, Any]:
            return {"difference": float((y.detach() - expected).abs().max() / expected.abs().max())}

        return Contender(name, make, facts)

    return [contender(name, scan) for name, scan in SCANS.items()]


def cases(options: argparse.Namespace) -> list[Case]:
    shape = (2, 56, 32) if options.quick else SHAPE
    B, L, D = shape
    return [
        Case(
            {"table": "backward" if backward else "forward", "B": B, "L": L, "D": D, "k": COMPARTMENTS},
            lambda small, backward=backward: contenders((2, CHUNK, 16) if small else shape, backward),
        )
        for backward in (False, True)
    ]


if __name__ == "__main__":
    run("dendritic", __doc__ or "", cases)
