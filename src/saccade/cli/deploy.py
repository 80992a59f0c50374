"""Commands for integer programs: build, verify, run, inspect."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from saccade.cli import common, exporting
from saccade.cli.training import AsJson, DataRoot, SetName

app = typer.Typer(help="A trained network as an integer program with the same spikes.", no_args_is_help=True)
app.command()(exporting.c)
app.command()(exporting.export)
app.command("import")(exporting.import_nir)
ProgramFile = Annotated[Path, typer.Argument(metavar="PROGRAM", help="A file that `deploy build` wrote.")]


@app.command()
def build(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A model file, packed file or run directory, or a .nir.")
    ],
    out: Annotated[Path | None, typer.Option(help="Where it goes (default: MODEL's folder, program.sacc).")] = None,
    fraction: Annotated[int, typer.Option(help="Bits behind the point of potentials that need a fixed point.")] = 24,
    weight_bits: Annotated[int, typer.Option(help="Bits of weights that have no integer form.")] = 24,
    data: DataRoot = None,
    set_name: SetName = None,
) -> None:
    """Lower a trained network to whole numbers and write the program; a test image of its data tells the sizes.

    Of a .nir: as `saccade deploy import`, which has more settings.
    """
    from saccade.deploy import lower, save_program

    if model.suffix == ".nir":
        target = out or model.with_name("program.sacc")
        exporting.import_nir(model, target, fraction=fraction, weight_bits=weight_bits)
        return
    opened, x, scale = _sample(model, set_name, data)
    target = out or (opened.file or model).with_name("program.sacc")
    if bool((x != x.round()).any()):
        raise ValueError(
            f"{model}: its data gives numbers that are not whole (such as {float(x[x != x.round()][0]):.3g}), and a program "
            "takes whole ones; of events, the representations event_frame, count and binary give them"
        )
    program = lower(
        common.ours(opened),
        x / scale,
        fraction=fraction,
        weight_bits=weight_bits,
        unit=1 / scale,
        classes=opened.classes,
    )
    save_program(program, target)
    neurons = sum(1 for _ in program.named())
    print(f"{len(program.operations)} operations, {neurons} layers of neurons, {target.stat().st_size:,} bytes")
    for note in program.notes:
        print(f"note: {note}")
    print(f"wrote {target}")


@app.command()
def verify(
    program: ProgramFile,
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="What it was made from.")],
    images: Annotated[int | None, typer.Option(min=1, help="Only the first of the test images.")] = None,
    most: Annotated[int, typer.Option(min=0, help="Spikes that may differ.")] = 0,
    engine: Annotated[
        str, typer.Option(help="Whose spikes: native (the engine's) or numpy (the interpreter's).")
    ] = "numpy",
    data: DataRoot = None,
    set_name: SetName = None,
    json: AsJson = False,
) -> None:
    """Compare a program with its model in float64 on the test images: spikes by layer, answers, accuracy of both.

    Exit code 1 if more spikes differ than --most.
    """
    import torch

    from saccade.deploy import compare, load_program

    loaded = load_program(program)
    opened, test = _with_data(model, set_name, data)
    count = min(images or len(test), len(test))
    different: dict[str, int] = {}
    levels, largest, right, same = 0, 0.0, [0, 0], 0
    with common.passes(quiet=json) as tell:
        for start in range(0, count, 50):
            index = list(range(start, min(start + 50, count)))
            found = compare(loaded, common.ours(opened), _pixels(test, index), engine=engine)
            for path, number in found.different.items():
                different[path] = different.get(path, 0) + number
            levels, largest = levels + found.levels, max(largest, found.largest)
            if test.classes:
                answers = [torch.from_numpy(answer).argmax(1) for answer in (found.model, found.program)]
                right = [r + int((a == test.targets[index]).sum()) for r, a in zip(right, answers, strict=True)]
                same += int((answers[0] == answers[1]).sum())
            tell("compared", len(index))
    wrong = sum(different.values())
    record: dict[str, Any] = {
        "images": count,
        "levels": levels,
        "different": wrong,
        "by_layer": {path: number for path, number in different.items() if number},
        "largest_difference_of_an_answer": largest,
    }
    if test.classes:
        record |= {
            "same_class": same,
            "accuracy_model": right[0] / count,
            "accuracy_program": right[1] / count,
        }
    if json:
        common.print_json(record)
    else:
        print(f"{count} images, {levels:,} spikes and levels: {wrong} differ from the model in float64")
        for path, number in record["by_layer"].items():
            print(f"  {path}: {number}")
        classes = f"; the same class for {same} of {count}" if test.classes else ""
        print(f"answers differ by at most {largest:.1e}{classes}")
        if test.classes:
            print(f"accuracy: model {right[0] / count:.2%}, program {right[1] / count:.2%}")
    if wrong > most:
        raise typer.Exit(1)


@app.command()
def run(
    program: ProgramFile,
    pictures: Annotated[
        list[Path], typer.Argument(help="PNG, JPEG, ..., or folders: brought to the program's size, cut to a square.")
    ],
    json: AsJson = False,
) -> None:
    """Classify pictures with a program, in whole numbers alone: the class, its share, and the time taken.

    The native engine runs it where it is built and has all its operations, else the interpreter.
    """
    import numpy as np

    from saccade.data.folder import is_image, read_image
    from saccade.deploy import load_program

    loaded = load_program(program)
    channels, size, width = loaded.wires[0].shape
    if channels not in (1, 3) or size != width:
        raise ValueError(
            f"{program}: takes inputs {list(loaded.wires[0].shape)}, and a picture is square with 1 or 3 channels"
        )
    files = []
    for path in pictures:
        inside = sorted(file for file in path.iterdir() if is_image(file)) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"{path}: a folder without pictures")
        files += inside
    loaded.run(np.zeros((1, *loaded.wires[0].shape), np.uint8))  # planned before anything is timed
    rows = []
    for picture in files:
        pixels = read_image(picture, size, channels).numpy()[None]
        begin = time.perf_counter()
        logits = loaded.run(pixels)[0]
        took = time.perf_counter() - begin
        share = np.exp(logits - logits.max())
        best = int(logits.argmax())
        rows.append(
            {
                "picture": str(picture),
                "class": best,
                "name": loaded.classes[best] if loaded.classes else f"class {best}",
                "share": float(share[best] / share.sum()),
                "ms": took * 1e3,
            }
        )
    if json:
        common.print_json(rows)
        return
    for row in rows:
        print(f"{row['picture']}: {row['name']} ({row['share']:.1%}), {row['ms']:.1f} ms")


@app.command()
def inspect(program: ProgramFile) -> None:
    """List a program: its operations, the sizes and bits of what they make, what was rounded, and how the engine makes them.

    "events to 12 %, tables" is a layer of spikes: event rows where at most 12 % of its input fires, else tables.
    """
    from rich.table import Table

    from saccade.deploy import load_program
    from saccade.deploy.engine import choices
    from saccade.deploy.lowering import bits_of

    loaded = load_program(program)
    try:
        chosen = choices(loaded)
    except ValueError as error:
        chosen = {}
        print(f"note: {error}")
    table = Table("wire", "operation", "reads", "shape", "bits", "neurons of", "engine")
    first = loaded.wires[0]
    table.add_row("0", "input", "", str(list(first.shape)), str(bits_of(first.low, first.high)), "", "")
    for i, (operation, wire) in enumerate(zip(loaded.operations, loaded.wires[1:], strict=True), 1):
        reads = ", ".join(map(str, operation.inputs))
        bits = str(bits_of(wire.low, wire.high))
        table.add_row(str(i), operation.name, reads, str(list(wire.shape)), bits, wire.path, chosen.get(i, ""))
    common.print_table(table)
    for note in loaded.notes:
        print(f"note: {note}")


@app.command()
def bench(
    program: ProgramFile,
    images: Annotated[
        Path | None, typer.Option(help="A picture, or a folder of them (default: random pixels).")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engine, and of torch for --against.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Pictures a call.")] = 1,
    calls: Annotated[int, typer.Option(min=10, help="Calls that are timed.")] = 300,
    against: Annotated[
        Path | None, typer.Option(help="The model that it was made from, run by PyTorch beside it.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Time a program: the call from Python, its spread, pictures a second, the share of each layer, how often inputs fire."""
    import numpy as np

    from saccade.deploy import load_program
    from saccade.deploy.bench import layer_times, timed

    loaded = load_program(program)
    shape = loaded.wires[0].shape
    if images is None:
        lead = (loaded.T, batch) if loaded.sequence else (batch,)
        x = np.random.default_rng(0).integers(0, loaded.wires[0].high + 1, (*lead, *shape)).astype(np.uint8)
    else:
        x = _pictures(program, loaded, images, batch)
    rivals: dict[str, Any] = {"engine": lambda: loaded.run(x, threads=threads)}
    if against is not None:
        import torch

        torch.set_num_threads(threads)
        opened, _ = common.trained(against)
        model = common.ours(opened).eval()
        given = torch.from_numpy(x).float() * loaded.unit

        def eager() -> None:
            with torch.inference_mode():
                model(given)

        rivals["PyTorch"] = eager
    found = timed(rivals, calls)
    layers = layer_times(loaded, x, threads, calls)
    rates = {path: float((value != 0).mean()) for path, value in loaded.spikes(x).items()}
    record = {
        "threads": threads,
        "batch": batch,
        **{
            name: {
                "median_ms": took[1] * 1e3,
                "quartiles_ms": [took[0] * 1e3, took[2] * 1e3],
                "per_second": batch / took[1],
            }
            for name, took in found.items()
        },
        "layers": [{"wire": i, "how": how, "microseconds": us} for i, how, us in layers],
        "rates": rates,
    }
    if json:
        common.print_json(record)
        return
    for name, took in found.items():
        low, median, high = (seconds * 1e3 for seconds in took)
        print(f"{name}: {median:.3f} ms ({low:.3f} to {high:.3f}), {batch / median * 1e3:,.0f} pictures a second")
    for i, how, us in layers:
        print(f"  wire {i}: {us:7.1f} us  {how}")
    for path, rate in rates.items():
        print(f"  {path}: {rate:.1%} fire")


def _pictures(program: Path, loaded: Any, images: Path, batch: int) -> Any:
    """As many pictures as a call takes, those there are again and again."""
    import numpy as np

    from saccade.data.folder import read_image

    channels, size, width = loaded.wires[0].shape
    if channels not in (1, 3) or size != width or loaded.sequence:
        raise ValueError(f"{program}: takes inputs {list(loaded.wires[0].shape)}, which pictures are not")
    known = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
    files = sorted(p for p in images.iterdir() if p.suffix.lower() in known) if images.is_dir() else [images]
    if not files:
        raise ValueError(f"{images}: no pictures ({', '.join(sorted(known))})")
    read = [read_image(files[i % len(files)], size, channels).numpy() for i in range(batch)]
    return np.stack(read)


def _sample(model: Path, set_name: str | None, data: Path | None) -> Any:
    """The model, an input as it is stored, and the number that a model sees as 1: of its data, or a blank input where its
    file alone says what it takes."""
    import torch

    opened, recipe = common.trained(model)
    if recipe is not None or set_name is not None or not opened.input_said:
        test = common.data_for(opened, recipe, set_name, data)[0].test
        return opened, _pixels(test, [0]), test.scale
    assert opened.input_shape is not None
    frames = common.ours(opened).frames
    if frames is None:
        return opened, torch.zeros(1, *opened.input_shape), 255.0
    windows = ((frames.get("windows") or {}).get("config") or {}).get("frames")
    steps = int(frames.get("steps") or windows or 1)
    lead = (steps, 1) if steps > 1 else (1,)
    return opened, torch.zeros(*lead, *opened.input_shape), 1.0


def _with_data(model: Path, set_name: str | None, data: Path | None) -> Any:
    """The model and its test images."""
    opened, recipe = common.trained(model)
    return opened, common.data_for(opened, recipe, set_name, data)[0].test


def _pixels(test: Any, index: list[int]) -> Any:
    """Images as they are stored, whole numbers ``[n, C, H, W]``, or sequences ``[T, n, C, H, W]``."""
    import torch

    images = test.__getitems__(index)[0].to(torch.float32)
    return images.transpose(0, 1) if test.sequences else images
