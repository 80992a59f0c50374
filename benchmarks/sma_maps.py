"""What a multiscale attention weighs in recordings: a network of event_tables.py is trained, and drawn on test recordings.

    python benchmarks/sma_maps.py docs/images/sma-maps.png --data DATA [--row sma] [--samples 0 7]

A block of lines a recording, a column a frame: the events, and for each scale (side of its kernel) the mean over channels of
what it gives to the sum, weight times map, drawn over the events; the brightest of a block is the same for all its scales. The
number is the scale's share, mean over channels: the shares of all scales sum to 1.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from event_tables import nmnist
from PIL import Image, ImageDraw
from torch import Tensor

from saccade.data import batches
from saccade.data import load as load_data
from saccade.experiment import parse, run
from saccade.files import load_model
from saccade.layers.sma import SMA
from saccade.report.heat import enlarged, heat

SIDE, GAP, LEFT, LINE = 68, 4, 64, 12  # pixels


def looked(model: torch.nn.Module, x: Tensor) -> tuple[list[np.ndarray], list[np.ndarray], list[int]]:
    """Of the first attention and the first sample: by scale ``[T, h, w]`` what it gives, ``[T]`` its weight; the kernels."""
    attention = next(module for module in model.modules() if isinstance(module, SMA))
    seen: list[Tensor] = []
    handle = attention.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        model(x)
        handle.remove()
        maps = [scale(seen[0]) for scale in attention.scales]
        by_step, by_channel = attention.weights(maps)
        both = by_channel if by_step is None else by_channel * by_step.unsqueeze(-1)
        share = both / both.sum(0)
        given = [(w[..., None, None] * m)[:, 0].mean(1).numpy() for w, m in zip(both, maps, strict=True)]
        return given, [w[:, 0].mean(-1).numpy() for w in share], list(attention.config.kernels)


def drawn(blocks: list[tuple[str, np.ndarray, list[np.ndarray], list[np.ndarray], list[int]]]) -> Image.Image:
    steps, lines = len(blocks[0][1]), sum(1 + len(block[2]) for block in blocks)
    sheet = Image.new("RGB", (LEFT + steps * (SIDE + GAP), lines * (SIDE + GAP + LINE)), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for name, frames, given, weights, kernels in blocks:
        most = max(float(g.max()) for g in given) or 1.0
        for line in range(1 + len(given)):
            draw.text(
                (2, top + SIDE // 2), f"{kernels[line - 1]} x {kernels[line - 1]}" if line else name, fill="black"
            )
            for t in range(steps):
                left = LEFT + t * (SIDE + GAP)
                events = (frames[t].sum(0, keepdims=True) > 0).astype(np.uint8) * 255
                if line:
                    picture = heat(events, given[line - 1][t], SIDE, most)
                    draw.text((left, top), f"{weights[line - 1][t]:.2f}", fill="black")
                else:
                    picture = enlarged(np.repeat(events, 3, 0), SIDE)
                sheet.paste(Image.fromarray(picture.transpose(1, 2, 0)), (left, top + LINE))
            top += SIDE + GAP + LINE
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--row", default="sma")
    parser.add_argument("--samples", type=int, nargs="+", default=[0, 1])
    given = parser.parse_args()
    raw = nmnist()[given.row]
    recipe = parse(raw | {"seed": 0, "data": raw["data"] | {"root": given.data}})
    with tempfile.TemporaryDirectory() as folder:
        run(recipe, Path(folder) / "run", quiet=True, report=False)
        model = load_model(Path(folder) / "run" / "model.safetensors").eval()
    source = {"name": recipe.data.name, "config": recipe.data.config}
    test = load_data(source, given.data, validation=recipe.data.validation, seed=0).test.subset(given.samples)
    frames, labels = next(iter(batches(test, len(test), seed=None)))
    blocks = []
    for i, label in enumerate(labels.tolist()):
        one = frames[:, i : i + 1]
        blocks.append((f"digit {label}", one[:, 0].numpy(), *looked(model, one)))
    drawn(blocks).save(given.out)


if __name__ == "__main__":
    main()
