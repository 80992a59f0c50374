"""sdtrack_tiny beside the authors' formulation, in one process:

    python benchmarks/track_forward.py --out results/track/forward.json

``reference``: what Shan et al. (2025) released, written here in plain PyTorch from its description: maps [N, C, H, W], every
step an operation of its own (convolution, batch norm, clamp, round, division), scores of all pairs of tokens made first. It has
the weights of ours and gives the same answer. Ours: ``canvas``, as published; ``folded``, its norms in the weights (a level of
this random network turns by rounding now and then, so its answer is another); ``siamese``, the regions by themselves instead of
on a canvas that is 44 % zeros: another function near the corner where the two touch. One thread, batch 1, eval mode, medians
over interleaved rounds.
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade.deploy.bench import timed
from saccade.models import create_model
from saccade.models.sdtrack import SDTrack
from saccade.transforms import fuse
from saccade.verify import wake

HEADS = 8


def spike(x: Tensor) -> Tensor:
    """Levels of an integer neuron of four."""
    return torch.round(torch.clamp(x, 0, 4)) / 4


class Reference(nn.Module):
    """The released formulation with the weights of ours, in the order of ours."""

    def __init__(self, model: SDTrack) -> None:
        super().__init__()
        convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for conv in convs:
            plain = nn.Conv2d(
                conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,  # type: ignore[arg-type]
                groups=conv.groups, bias=conv.bias is not None,
            )  # fmt: skip
            plain.load_state_dict(conv.state_dict())
            self.convs.append(plain)
        for norm in norms:
            own = nn.BatchNorm2d(norm.num_features)
            own.load_state_dict(norm.state_dict())
            self.norms.append(own)

    def forward(self, x: Tensor) -> Tensor:
        convs, norms = iter(self.convs), iter(self.norms)

        def conv(x: Tensor) -> Tensor:
            y: Tensor = next(norms)(next(convs)(x))
            return y

        def block(x: Tensor) -> Tensor:
            x = x + conv(spike(conv(spike(conv(spike(x))))))
            return x + conv(spike(conv(spike(x))))

        def mixing(x: Tensor) -> Tensor:
            n, c, h, w = x.shape
            fired = spike(x)
            q, k, v = (
                spike(conv(fired))
                .flatten(2)
                .transpose(1, 2)
                .reshape(n, h * w, HEADS, -1)
                .permute(0, 2, 1, 3)
                .contiguous()
                for _ in range(3)
            )
            mixed = (q @ k.transpose(-2, -1)) @ v * (2 * (c // HEADS) ** -0.5)
            mixed = mixed.transpose(2, 3).reshape(n, -1, h, w).contiguous()
            x = x + conv(spike(mixed))
            return x + conv(spike(conv(spike(x))))

        x = block(conv(x))
        x = block(conv(spike(x)))
        x = block(block(conv(spike(x))))
        x = conv(spike(x))
        n, c, _, _ = x.shape
        tokens = torch.cat([x[..., -8:, -8:].flatten(2), x[..., :16, :16].flatten(2), x.new_zeros(n, c, 4)], 2)
        x = tokens.view(n, c, 18, 18)
        for _ in range(6):
            x = mixing(x)
        flat = spike(x).flatten(2)
        widen, norm = next(convs), next(norms)
        parts = [
            norm(widen(part.reshape(n, c, side, side))).flatten(2)
            for part, side in ((flat[..., :64], 8), (flat[..., 64:320], 16), (flat[..., 320:], 2))
        ]
        x = torch.cat(parts, 2).view(n, -1, 18, 18)
        for _ in range(2):
            x = mixing(x)
        found = x.flatten(2)[..., 64:320].reshape(n, -1, 16, 16)
        maps = []
        for _ in range(3):
            y = found
            for _ in range(4):
                y = conv(spike(y))
            maps.append(next(convs)(y))
        return torch.cat(maps, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--calls", type=int, default=10)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model: Any = create_model("sdtrack_tiny").eval()
    draw = torch.Generator().manual_seed(0)
    x = torch.zeros(1, 3, 384, 384)
    for begin, side in ((0, 256), (256, 128)):
        place = slice(begin, begin + side)
        events = (torch.rand(1, 3, side, side, generator=draw) > 0.85) * torch.randint(
            1, 5, (1, 3, side, side), generator=draw
        )
        x[:, :, place, place] = 30.0 * events
    wake(model, x[None])
    siamese: Any = create_model("sdtrack_tiny", layout="siamese").eval()
    siamese.load_state_dict(dict(zip(siamese.state_dict(), model.state_dict().values(), strict=True)))
    reference = Reference(model).eval()
    with torch.inference_mode():
        difference = float((reference(x) - model(x)).abs().max())
    rivals: dict[str, Any] = {
        "reference": reference,
        "canvas": model,
        "folded": fuse(model, x[None]).model,
        "siamese": siamese,
    }

    def call(network: nn.Module) -> Any:
        def run() -> None:
            with torch.inference_mode():
                network(x)

        return run

    took = timed({name: call(network) for name, network in rivals.items()}, given.calls)
    record = {
        "format": "saccade-track-forward-1",
        "command": "python benchmarks/track_forward.py",
        "date": datetime.date.today().isoformat(),
        "largest_difference": difference,
        "seconds": {name: list(values) for name, values in took.items()},
        "times_faster": {name: took["reference"][1] / values[1] for name, values in took.items()},
    }
    for name, (low, middle, high) in took.items():
        print(
            f"{name}: {middle * 1e3:.0f} ms ({low * 1e3:.0f} to {high * 1e3:.0f}), {record['times_faster'][name]:.2f} x"
        )
    print(f"answers of reference and canvas differ by {difference:.1e}")
    if given.out:
        given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
