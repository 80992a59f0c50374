"""The command that shows where the attentions of a model look in a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saccade.cli import common


def attention(
    model: Annotated[Path, typer.Argument(help="A model file or run directory.")],
    picture: Annotated[Path, typer.Argument(help="A PNG, JPEG, ...: brought to the model's size, cut to a square.")],
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("attention.png"),
) -> None:
    """Write a PNG of where attentions look: the picture, what its places give to the others, what they give to the middle."""
    import torch

    from saccade.data.folder import read_image
    from saccade.experiment.stages.attention import map_pairs
    from saccade.report.heat import write_sheet

    opened, _ = common.trained(model)
    net = common.ours(opened)
    if net.in_channels not in (1, 3):
        raise ValueError(f"{model}: takes {net.in_channels} channels, and a picture has 1 or 3")
    shape = opened.input_shape
    pixels = read_image(picture, shape[-1] if shape else net.input_size[-1], net.in_channels)
    pairs = map_pairs(net, pixels.to(torch.float32).unsqueeze(0) / 255)
    write_sheet(out, pixels.numpy(), pairs)
    typer.echo(f"{out}: {len(pairs)} attentions (picture, given to all, given to the middle)")
