"""Commands for transformers of spikes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saccade.cli import common
from saccade.cli.training import AsJson, DataRoot, SetName


def unroll(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model file, run directory, or registered name (untrained).")
    ],
    out: Annotated[Path | None, typer.Option(help="Where the copy goes (default: beside the model).")] = None,
    data: DataRoot = None,
    set_name: SetName = None,
    images: Annotated[int, typer.Option(min=1, help="How many test images the copy is compared on.")] = 20,
    json: AsJson = False,
) -> None:
    """Write a copy of a network of integer neurons that computes in binary spikes, and check that it is the same function.

    In float64 every level has to agree, or nothing is written; in float32 levels that flip are counted. A registered name is
    unrolled untrained, and compared on noise.
    """
    from saccade.files import save_model
    from saccade.transforms import unroll as unrolled

    opened, target, sample, classes, shape = common.to_copy(model, out, "unrolled", images, set_name, data)
    found = unrolled(common.ours(opened), sample)
    save_model(found.model, target, classes, shape)
    if json:
        numbers = {"D": found.D, "levels": found.levels, "flips_float64": found.flips, "gap_float64": found.gap}
        common.print_json({**numbers, "flips": found.flips_in_use, "images": len(sample), "file": str(target)})
        return
    print(f"{found.D} virtual steps of binary spikes a step; compared on {len(sample)} images:")
    print(f"in float64 all of {found.levels} levels agree, outputs to {found.gap:.1e}")
    print(f"in the numbers of the model {found.flips_in_use} levels differ: sums are taken in another order")
    print(f"wrote {target}")
