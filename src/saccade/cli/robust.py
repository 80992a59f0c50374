"""``saccade attack``: how far a model can be fooled, and whether the figure can be trusted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from saccade.cli import common
from saccade.cli.training import AsJson, DataRoot, SetName


def attack(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file, packed file or run directory.")],
    preset: Annotated[str, typer.Option(help="quick, standard or full.")] = "standard",
    attacks: Annotated[
        list[str] | None, typer.Option("--attack", help="Instead of a preset: attacks by name, several times.")
    ] = None,
    eps: Annotated[
        str, typer.Option(help="Largest change of a pixel in [0, 1]: a number, or a fraction such as 8/255.")
    ] = "8/255",
    images: Annotated[int, typer.Option(min=1, help="The first so many of the test images.")] = 200,
    batch: Annotated[int, typer.Option(min=1)] = 100,
    seed: int = 0,
    also: Annotated[
        list[Path] | None,
        typer.Option(help="Other forms of it (model, packed or program file) that are shown the images found."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Keep the evaluation here, and go on with it (a .json).")] = None,
    name: Annotated[str, typer.Option(help="What it is called in tables (default: its file).")] = "",
    masking: Annotated[bool, typer.Option(help="With the report on masked gradients.")] = True,
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu or cuda.")] = "auto",
    data: DataRoot = None,
    set_name: SetName = None,
    json: AsJson = False,
) -> None:
    """Search images near the test images that the model gets wrong: a table by attack, the worst of all, and the masking
    report.
    """
    from saccade.experiment import environment
    from saccade.robust.evaluate import evaluate

    opened, recipe = common.trained(model)
    test, x, y = _images(opened, recipe, images, set_name, data)
    place = _device(device)
    network, x, y = common.ours(opened).eval().to(place), x.to(place), y.to(place)
    others = {str(path): _predictor(path, test.scale) for path in also or []}
    made = environment()
    told = {key: made[key] for key in ("saccade", "commit", "started")}
    record = evaluate(
        network,
        x,
        y,
        attacks=attacks or preset,
        eps=_number(eps),
        batch=batch,
        seed=seed,
        masking=masking,
        also=others,
        about={
            "name": name or model.name,
            "data": set_name or (recipe.data.name if recipe else ""),
            "device": place,
            **told,
        },
        out=out,
        tell=lambda words: print(words, file=sys.stderr),
    )
    if json:
        common.print_json(record)
        return
    print_evaluation(record)


robust_app = typer.Typer(help="Evaluations that `saccade attack --out` kept.", no_args_is_help=True)
Evaluations = Annotated[list[Path], typer.Argument(metavar="FILE...", help="What `saccade attack --out` kept.")]


@robust_app.command("report")
def report(file: Annotated[Path, typer.Argument(metavar="FILE", help="What `saccade attack --out` kept.")]) -> None:
    """Print an evaluation again: its table and the masking report."""
    from saccade.report.robustness import read_evaluation

    print_evaluation(read_evaluation(file).model_dump())


@robust_app.command("compare")
def compare(files: Evaluations) -> None:
    """Several evaluations side by side, by attack. They have to share their threat."""
    from rich.table import Table

    from saccade.report.robustness import read_evaluation

    found = [read_evaluation(file) for file in files]
    if len({entry.threat.model_dump_json() for entry in found}) > 1:
        raise ValueError("these evaluations have different threats (eps, range), which do not compare")
    table = Table("attack", *(entry.about.name or file.stem for file, entry in zip(files, found, strict=True)))
    table.add_row("none", *(f"{entry.clean.accuracy:.1%}" for entry in found))
    for how in dict.fromkeys(how for entry in found for how in entry.attacks):
        cells = (f"{entry.attacks[how].accuracy:.1%}" if how in entry.attacks else "–" for entry in found)
        table.add_row(how, *cells)
    table.add_row("worst of all", *(f"{entry.worst.accuracy:.1%}" for entry in found))
    alarms = (str(sum(check.alarm for check in entry.masking or [])) for entry in found)
    table.add_row("alarms", *alarms)
    common.print_table(table)


@robust_app.command("page")
def page(folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="With evaluations (*.json).")]) -> None:
    """Make a leaderboard, FOLDER/leaderboard.html, of all evaluations of a folder."""
    from saccade.report.robustness import write_leaderboard

    print(f"wrote {write_leaderboard(folder)}")


@robust_app.command("look")
def look(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file, packed file or run directory.")],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("look.html"),
    eps: Annotated[str, typer.Option(help="Largest change of a pixel in [0, 1].")] = "8/255",
    images: Annotated[int, typer.Option(min=1, help="The first so many of the test images.")] = 50,
    seed: int = 0,
    data: DataRoot = None,
    set_name: SetName = None,
) -> None:
    """Draw what attacks do: accuracy over eps and over budget, the margin around an image, the spikes that flip in it."""
    from saccade.report import write_text
    from saccade.report.robust_look import look_page
    from saccade.robust.looks import look

    opened, recipe = common.trained(model)
    _, x, y = _images(opened, recipe, images, set_name, data)
    network = common.ours(opened).eval()
    found = look(network, x, y, _number(eps), seed=seed, tell=lambda words: print(words, file=sys.stderr))
    write_text(out, look_page(model.name, found) + "\n")
    print(f"wrote {out}")


def _images(opened: Any, recipe: Any, count: int, set_name: str | None, data: Path | None) -> tuple[Any, Any, Any]:
    """The test set, and of its first images the pixels in [0, 1] and the labels."""
    import torch

    test = common.data_for(opened, recipe, set_name, data)[0].test
    if test.sequences:
        raise ValueError(
            "attacks of the command line change still images; sequences are attacked from Python (robust.attack, sda)"
        )
    x, y = test.__getitems__(list(range(min(count, len(test)))))[:2]
    return test, x.to(torch.float32) / test.scale, torch.as_tensor(y)


def _device(name: str) -> str:
    """auto, cpu or cuda as a device. Raises ValueError for others, and for a GPU that is not there."""
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"--device: auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: there is no CUDA device here (or this torch cannot use it)")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def _number(text: str) -> float:
    above, _, below = text.partition("/")
    try:
        return float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"--eps: {text!r} is no number and no fraction such as 8/255") from None


def _predictor(path: Path, scale: float) -> Any:
    """From images in [0, 1] to logits on their device, by a model or a program on the CPU."""
    import torch

    if path.suffix == ".sacc":
        from saccade.deploy import load_program

        program = load_program(path)
        return lambda x: torch.from_numpy(program.run((x.cpu() * scale).round().clamp(0, scale).numpy())).to(x.device)
    network = common.ours(common.trained(path)[0]).eval()

    def predict(x: Any) -> Any:
        with torch.no_grad():
            return network(x.cpu()).to(x.device)

    return predict


def print_evaluation(record: dict[str, Any]) -> None:
    """The table and the report, for people."""
    from rich.table import Table

    def percent(rate: dict[str, Any]) -> str:
        return f"{rate['accuracy']:.1%}  ({rate['low']:.0%} .. {rate['high']:.0%})"

    table = Table("attack", "right after it", "fooled, of the right", "gradients an image", "answers an image")
    table.add_row("none", percent(record["clean"]), "", "", "")
    for name, row in record["attacks"].items():
        cost = (f"{row['gradients_per_image']:.0f}", f"{row['forwards_per_image']:.0f}")
        table.add_row(name, percent(row), f"{row['success']:.1%}", *cost)
    table.add_row("worst of all", percent(record["worst"]), "", "", "")
    common.print_table(table)
    print(
        f"{record['samples']} images, largest change {record['threat']['eps']:.4g} of a range of 1; in brackets 95 % intervals"
    )
    for name, form in record.get("also", {}).items():
        print(
            f"{name}: {form['clean']['accuracy']:.1%} right, {form['worst']['accuracy']:.1%} of the images that were found"
        )
    for check in record["masking"] or []:
        print(f"{'ALARM' if check['alarm'] else 'ok   '} {check['name']}: {check['words']}")
