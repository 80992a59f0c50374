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
    layer_by_layer: Annotated[
        bool,
        typer.Option("--layer-by-layer", help="Often less RAM: all steps of a layer before the next; no streaming."),
    ] = False,
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
    written = source(loaded, name or _c_name(program.stem), steps, layer_by_layer)
    plan = written.plan
    print(
        f"RAM {plan.ram:,} bytes: {plan.state_bytes:,} kept from step to step, {plan.arena_bytes:,} shared; and the stack"
    )
    print(f"flash {plan.constant_bytes:,} bytes of constants, and about {plan.code_bytes:,} of code")
    if not plan.streams:
        print(
            f"all {loaded.T} steps are given together: {'layer by layer' if layer_by_layer else 'a gate looks at them'}"
        )
    elif written.writer.most and loaded.sequence:
        print(f"at most {written.writer.most} steps from rest")
    if fits is not None:
        ram, flash = parse_fits(fits)
        try:
            check_fits(written.writer, plan, ram, flash)
        except ValueError as error:
            less = plan if layer_by_layer else source(loaded, written.name, layer_by_layer=True).plan
            hint = f"; --layer-by-layer needs {less.ram:,}, and cannot stream" if less.ram <= ram < plan.ram else ""
            raise ValueError(f"{error}{hint}") from None
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


Convention = Annotated[
    str | None, typer.Option(help="euler (the equations, snnTorch) or sinabs; default: as the file says, else euler.")
]
Dt = Annotated[float | None, typer.Option(help="Seconds a step (default: as the file says, else 1e-4).")]


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file, packed file or run directory.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="net.nir or net.onnx.")],
    twin: Annotated[bool, typer.Option("--twin", help="ONNX of the same layers with ReLUs, in one step.")] = False,
    convention: Convention = None,
    dt: Dt = None,
) -> None:
    """Write a trained network for other frameworks: NIR, or ONNX unrolled over its steps."""
    from saccade.deploy.exchange import export_onnx, relu_twin, to_nir, write_nir
    from saccade.deploy.exchange.conventions import DT

    if out.suffix not in (".nir", ".onnx"):
        raise ValueError(f"{out}: ends neither in .nir nor in .onnx, so its format is not known")
    opened, _ = common.trained(model)
    net = common.ours(opened).eval()
    x = common.noise(opened, 1)
    if net.frames is not None:  # trained on sequences
        x = x.expand(net.T, *x.shape).contiguous()
    if out.suffix == ".nir":
        if twin:
            raise ValueError("--twin is of ONNX: a network of ReLUs has no spikes to exchange")
        graph = to_nir(net, x, convention=convention or "euler", dt=DT if dt is None else dt)
        write_nir(graph, out)
        print(f"{len(graph.nodes)} nodes, {len(graph.edges)} edges, {out.stat().st_size:,} bytes")
    else:
        written = export_onnx(relu_twin(net) if twin else net, x, out)
        print(f"{written.nodes} nodes, {written.bytes:,} bytes; takes x {list(x.shape)}, gives logits")
    print(f"wrote {out}")


def import_nir(
    source: Annotated[Path, typer.Argument(metavar="NET.nir", help="A graph of NIR.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.sacc", help="Where the program goes.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps that a still input is shown for.")] = 16,
    sequence: Annotated[bool, typer.Option("--sequence", help="Its input changes from step to step.")] = False,
    unit: Annotated[
        float | None,
        typer.Option(help="What a 1 of the input is in the network (default: 1/255 for 1 or 3 channels, else 1)."),
    ] = None,
    convention: Convention = None,
    dt: Dt = None,
    fraction: Annotated[int, typer.Option(help="Bits behind the point of potentials that need a fixed point.")] = 24,
    weight_bits: Annotated[int, typer.Option(help="Bits of weights.")] = 24,
) -> None:
    """Lower a network of another framework, given as NIR, to whole numbers and write the program."""
    import torch

    from saccade.deploy import lower, save_program
    from saccade.deploy.exchange import read_nir

    net = read_nir(source, T=steps, convention=convention, dt=dt)
    picture = len(net.shape) == 3 and net.shape[0] in (1, 3)
    one = unit if unit is not None else 1 / 255 if picture else 1.0
    lead = (steps, 1) if sequence else (1,)
    program = lower(net, torch.zeros(*lead, *net.input_shape), fraction=fraction, weight_bits=weight_bits, unit=one)
    save_program(program, out)
    neurons = sum(1 for _ in program.named())
    print(f"{len(program.operations)} operations, {neurons} layers of neurons, {out.stat().st_size:,} bytes")
    kind = "sequences" if sequence else f"still inputs, shown for {steps} steps"
    print(f"takes {list(net.input_shape)}, {kind}; a 1 of its input is {one:.4g} in the network")
    for note in (*net.notes, *program.notes):
        print(f"note: {note}")
    print(f"wrote {out}")
