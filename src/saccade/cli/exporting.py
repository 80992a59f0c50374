"""What `saccade deploy` hands to others: C, and exchange formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from saccade.cli import common
from saccade.cli.training import DataRoot, SetName


def c(
    program: Annotated[Path, typer.Argument(metavar="PROGRAM", help="A file that `deploy build` wrote.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the project.")],
    fits: Annotated[
        str | None, typer.Option(metavar="RAM,FLASH", help="Refuse what needs more, such as 64k,512k.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Its name in C (default: the file's).")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps from rest at most, of a program for sequences (default: all).")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Take the self-test's inputs from the test images of this model's run.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, max=64, help="How many of them.")] = 2,
    data: DataRoot = None,
    set_name: SetName = None,
) -> None:
    """Write a program as C99: sources, a self-test, a Makefile, CMake, a Zephyr module, an Arduino library.

    Says what RAM and flash it needs before anything is written. Without --model the self-test runs on patterns.
    """
    from saccade.deploy import load_program
    from saccade.deploy.c import check_fits, parse_fits, source, write_c

    loaded = load_program(program)
    written = source(loaded, name or _c_name(program.stem), steps)
    plan = written.plan
    print(
        f"RAM {plan.ram:,} bytes: {plan.state_bytes:,} kept from step to step, {plan.arena_bytes:,} shared; and the stack"
    )
    print(f"flash {plan.constant_bytes:,} bytes of constants, and about {plan.code_bytes:,} of code")
    if not plan.streams:
        print(f"a gate looks at all {loaded.T} steps: they are given together")
    elif written.writer.most and loaded.sequence:
        print(f"at most {written.writer.most} steps from rest")
    if fits is not None:
        check_fits(written.writer, plan, *parse_fits(fits))
    fired = write_c(written, out, _test_images(model, images, data, set_name) if model else None)
    silent = [path for path, count in fired.items() if not count]
    if silent:
        more = "" if model else ", which are patterns: --model takes test images"
        print(f"note: no spike in {', '.join(silent)} on the self-test's inputs{more}")
    print(f"wrote {out}: make -C {out} test")


def _c_name(stem: str) -> str:
    """A file's name as one in C."""
    found = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in stem.lower()).strip("_")
    return found if found[:1].isalpha() else f"net_{found}".rstrip("_")


def _test_images(model: Path, count: int, data: Path | None, set_name: str | None) -> Any:
    """The first test images of a run, as a program takes them."""
    import torch

    opened, recipe = common.trained(model)
    test = common.data_for(opened, recipe, set_name, data)[0].test
    images = test.__getitems__(list(range(count)))[0].to(torch.float32)
    return (images.transpose(0, 1) if test.sequences else images).numpy()
