"""``saccade compress``: fewer bits, fewer channels, and what a model then weighs."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saccade.cli import common
from saccade.cli.training import AsJson, DataRoot, ModelPath

if TYPE_CHECKING:
    from saccade.transforms import Transform

compress_app = typer.Typer(
    help="Make a network smaller, step by step: quantize, subbit or memory-free; score, prune; finetune; size. "
    "A recipe does it in one go.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Out = Annotated[Path | None, typer.Option(help="The file to write (default: beside the model).")]
Skip = Annotated[
    list[str] | None,
    typer.Option(help="Layer that keeps its weights (default: first convolution, last linear layer). Repeatable."),
]
Calibrate = Annotated[
    int,
    typer.Option(min=0, metavar="N", help="Estimate the norms again on N training images of the run (0: leave them)."),
]


@compress_app.command("quantize")
def quantize(
    model: ModelPath,
    method: Annotated[str, typer.Option(help="rescaw, vanilla, lsq, dorefa, binary or balanced_binary.")] = "rescaw",
    bits: Annotated[int, typer.Option(help="Of each weight, 1 to 8.")] = 4,
    scale: Annotated[str, typer.Option(help="gamma of rescaw: mean, mean_x2, max, percentile or one.")] = "mean",
    granularity: Annotated[str, typer.Option(help="One gamma a channel or a layer.")] = "channel",
    steps: Annotated[str, typer.Option(help="One learned step of lsq a layer or a channel.")] = "layer",
    skip: Skip = None,
    calibrate: Calibrate = 1280,
    out: Out = None,
    data: DataRoot = None,
    json: AsJson = False,
) -> None:
    """Give the weights of a trained model a few bits. They go on learning: see finetune."""
    from saccade.transforms import QuantizeConfig

    config = QuantizeConfig(method, bits, scale, granularity, steps=steps, skip=tuple(skip) if skip else None)
    _convert(model, "quantized", config, calibrate, out, data, json)


@compress_app.command("subbit")
def subbit(
    model: ModelPath,
    eta: Annotated[
        int, typer.Option(help="Bits of a 3x3 kernel's index: 4, 5, 6 give 0.44, 0.56, 0.67 bits a weight.")
    ] = 6,
    os: Annotated[bool, typer.Option(help="Search codewords with OS-Quant.")] = True,
    skip: Skip = None,
    calibrate: Calibrate = 1280,
    out: Out = None,
    data: DataRoot = None,
    json: AsJson = False,
) -> None:
    """Take a trained model's kernels from learnt codebooks: less than a bit a weight. They go on learning: see finetune."""
    from saccade.transforms import SubBitConfig

    config = SubBitConfig(eta, os, skip=tuple(skip) if skip else None)
    _convert(model, "subbit", config, calibrate, out, data, json)


@compress_app.command("memory-free")
def memory_free(
    model: ModelPath,
    mode: Annotated[str, typer.Option(help="How steps mix: leak, masked (one T only) or sliding.")] = "leak",
    order: Annotated[int, typer.Option(help="Steps that sliding looks back on, this one included.")] = 4,
    learn: Annotated[bool, typer.Option(help="Mixing may leave powers of two (which run in integers).")] = True,
    calibrate: Calibrate = 1280,
    out: Out = None,
    data: DataRoot = None,
    json: AsJson = False,
) -> None:
    """Take resets and stored potentials from a trained model's neurons. It is another function then: see finetune."""
    from saccade.neurons import MixingConfig
    from saccade.transforms import MemoryFreeConfig

    settings: dict[str, Any] = {"learn": learn} | ({"order": order} if mode == "sliding" else {})
    mixing = MixingConfig.parse({"name": f"{mode}_mixing", "config": settings})
    _convert(model, "memory-free", MemoryFreeConfig(mixing), calibrate, out, data, json)


def _convert(
    path: Path,
    name: str,
    transform: Transform,
    calibrate: int,
    out: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Load, change, save; sizes before and after, and the accuracy on validation images where the run says which."""
    from saccade.compress import recalibrate_
    from saccade.compress.pipeline import score_on, training_images
    from saccade.files import save_model
    from saccade.measure import model_size
    from saccade.transforms import apply, utilization

    opened, recipe = common.trained(path, packed=False)
    target = common.destination(out, opened, name)
    network = common.ours(opened)
    splits = task = None
    record: dict[str, Any] = {"model": opened.name, "bytes_before": model_size(network).bits / 8}
    if recipe is not None:
        splits, task = common.data_for(opened, recipe, None, data)
        record |= {"score": task.primary._asdict(), "validation_before": score_on(network, splits.validation, task)}
    change = apply(network, transform)
    if splits is not None and calibrate:
        recalibrate_(network, training_images(splits, calibrate, recipe.seed if recipe else 0))
    record |= {"bytes_after": model_size(network).bits / 8, "layers": list(change.layers)}
    if splits is not None and task is not None:
        record["validation_after"] = score_on(network, splits.validation, task)
    used = utilization(network)
    if used:
        record["levels_used"] = used
    save_model(network, target, opened.classes, opened.input_shape)
    record["file"] = str(target)
    if as_json:
        common.print_json(record)
        return
    left = f", left as they were: {', '.join(change.left)}" if change.left else ""
    print(f"{len(change.layers)} layers changed{left}")
    if used:
        least = min(used, key=lambda path: used[path])
        print(
            f"levels used by the central 99 % of weights: {used[least]:.0%} to {max(used.values()):.0%}, least in {least}"
        )
    _say_change(record)
    if splits is None or not calibrate:
        why = f"{opened.name} lies in no run directory" if recipe is None else "--calibrate 0"
        print(
            f"norms were left as they are ({why}): estimate them again on training images before it is used, or finetune"
        )
    print(f"wrote {target}")


def _say_change(record: dict[str, Any]) -> None:
    from saccade.train import Score

    before, after = record["bytes_before"], record["bytes_after"]
    print(f"learnt numbers {before / 1e3:,.1f} kB -> {after / 1e3:,.1f} kB ({before / after:.1f} times smaller)")
    if "validation_before" in record:
        score = Score(**record["score"])
        values = [score.text(record[f"validation_{when}"]) for when in ("before", "after")]
        print(f"validation {score.name} {values[0]} -> {values[1]}")


@compress_app.command("score")
def score(
    run: ModelPath,
    criterion: Annotated[str, typer.Option(help="svs, sca, rate, l1, bn_gamma or random.")] = "svs",
    batches: Annotated[int, typer.Option(min=1, help="How many batches of training images to look at.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a batch.")] = 128,
    seed: Annotated[int, typer.Option(help="Of the choice of images (and of random).")] = 0,
    out: Out = None,
    data: DataRoot = None,
    json: AsJson = False,
) -> None:
    """Score the channels that could be removed."""
    from rich.table import Table

    from saccade.compress.pipeline import score_channels
    from saccade.experiment import splits_for
    from saccade.report import write_text

    opened, recipe = common.trained(run, packed=False)
    if recipe is None:
        raise ValueError(f"{run}: scoring needs a run directory, for its training images")
    network = common.ours(opened)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        scores = score_channels(network, splits_for(recipe, None, data), criterion, batches, batch_size, seed)
    target = out or opened.beside("scores").with_suffix(".json")
    write_text(target, common.as_json(scores.to_json()) + "\n")
    if json:
        common.print_json(scores.to_json())
        return
    for one in notes:
        print(f"note: {one.message}")
    table = Table("group", "channels", "least", "median", "most", "distinct")
    for name, values in scores.values.items():
        ordered = sorted(values)
        middle = ordered[len(ordered) // 2]
        table.add_row(
            name, str(len(values)), *(f"{v:.4g}" for v in (ordered[0], middle, ordered[-1])), str(len(set(values)))
        )
    common.print_table(table)
    looked = f"on {scores.images} training images" if scores.images else "by its weights alone"
    print(f"{criterion} {looked}; wrote {target}")


@compress_app.command("prune")
def prune(
    run: ModelPath,
    scores: Annotated[
        Path | None, typer.Option(help="A file of scores (default: scores.json beside the model).")
    ] = None,
    ratio: Annotated[float | None, typer.Option(help="Share of every group's channels to remove.")] = None,
    ratios: Annotated[list[str] | None, typer.Option(help="GROUP=SHARE, other groups stay whole. Repeatable.")] = None,
    budget_kb: Annotated[float | None, typer.Option(help="What the whole model may take, in 10^3 bytes.")] = None,
    calibrate: Calibrate = 1280,
    out: Out = None,
    data: DataRoot = None,
    json: AsJson = False,
) -> None:
    """Remove the channels with the lowest scores, with norms, statistics and what reads them; estimate the norms again."""
    from saccade.compress import read_scores, recalibrate_
    from saccade.compress.pipeline import make_plan, score_on, training_images
    from saccade.experiment.stages import Prune
    from saccade.files import save_model
    from saccade.measure import model_size
    from saccade.transforms import apply

    if sum(value is not None for value in (ratio, ratios, budget_kb)) != 1:
        raise ValueError("how much? give one of --ratio, --ratios and --budget-kb")
    amount = Prune(ratio=ratio, ratios=_shares(ratios) if ratios else None, budget_kb=budget_kb)
    opened, recipe = common.trained(run, packed=False)
    if recipe is None:
        raise ValueError(f"{run}: pruning needs a run directory, for its images")
    target = common.destination(out, opened, "pruned")
    network = common.ours(opened)
    splits, task = common.data_for(opened, recipe, None, data)
    plan = make_plan(
        network,
        read_scores(scores or opened.beside("scores").with_suffix(".json")),
        ratio=amount.ratio,
        ratios=amount.ratios,
        budget_kb=amount.budget_kb,
    )
    record: dict[str, Any] = {"model": opened.name, "bytes_before": model_size(network).bits / 8}
    record |= {"score": task.primary._asdict(), "validation_before": score_on(network, splits.validation, task)}
    record["kept"] = {name: list(channels) for name, channels in plan.kept.items()}
    apply(network, plan.transform())
    apply(network, "thaw_scales")
    if calibrate:
        recalibrate_(network, training_images(splits, calibrate, recipe.seed))
    record |= {"bytes_after": model_size(network).bits / 8}
    record["validation_after"] = score_on(network, splits.validation, task)
    save_model(network, target, opened.classes, opened.input_shape)
    record["file"] = str(target)
    if json:
        common.print_json(record)
        return
    print(f"channels kept: {plan}")
    _say_change(record)
    print(f"wrote {target}; go on with: saccade compress finetune {target}")


def _shares(ratios: list[str]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for one in ratios:
        name, equals, value = one.rpartition("=")
        if name in shares:
            raise ValueError(f"--ratios: {name} is given twice")
        try:
            shares[name] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise ValueError(f"--ratios {one!r}: write GROUP=SHARE, e.g. stem.0=0.3")
    return shares


@compress_app.command("finetune")
def finetune(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file: quantized, pruned, ...")],
    like: Annotated[
        Path | None,
        typer.Option(help="Run whose data and training settings are used (default: the one that MODEL lies in)."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory (default: finetune beside the model).")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key: train.epochs=5, train.lr=1e-3. Repeatable.")
    ] = None,
    teacher: Annotated[Path | None, typer.Option(help="A model file to learn from as well.")] = None,
    method: Annotated[str, typer.Option(help="What to learn from the teacher: mpfd, rates, logits or fgd.")] = "mpfd",
    data: DataRoot = None,
    json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Train a changed model on, score it once on the test set, write its report. Interrupted, the same command goes on."""
    from saccade.cli.training import print_summary
    from saccade.experiment import RunDirectory, open_run, override, parse
    from saccade.experiment import run as run_recipe
    from saccade.experiment.stages import finetune_recipe
    from saccade.train import Interrupted, main_process

    if method != "mpfd" and teacher is None:
        raise ValueError(f"--method {method} says what to learn from a teacher: name one with --teacher")
    model, own = open_run(model)
    recipe = open_run(like)[1] if like else own
    if recipe is None:
        raise ValueError(f"{model}: lies in no run directory; name one with --like, for its images and settings")
    raw = finetune_recipe(recipe, model, {}).model_dump(mode="json")
    if teacher is not None:
        raw["teacher"] = {"model": str(teacher), "method": method}
    plan = parse(override(raw, settings or []), "finetune")
    place = RunDirectory(out or model.with_name("finetune"))
    try:
        resume = place.has_checkpoint() and not place.finished()
        summary = run_recipe(plan, place.path, resume=resume, data=data, quiet=quiet)
    except Interrupted as stop:
        raise Interrupted(f"{stop}; give the same command again to go on") from None
    if main_process():
        print_summary(summary, place.path, json)


@compress_app.command("size")
def size(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A model file, packed file, run directory, or registered name (untrained)."
        ),
    ],
    preset: Annotated[
        str, typer.Option(help="paper_qp, paper_s2nn, paper_qsd, or exact (the file alone).")
    ] = "paper_qp",
    export: Annotated[Path | None, typer.Option(help="Write the packed file here.")] = None,
    json: AsJson = False,
) -> None:
    """What the learnt numbers of a model take, by kind, and what its packed file and its program (.sacc) weigh to the byte."""
    import tempfile

    from saccade.deploy import load_program, lower, program_size
    from saccade.files import open_model, save_packed
    from saccade.measure import exact_size, model_size
    from saccade.measure.size import PRESETS

    record: dict[str, Any]
    if preset not in (*PRESETS, "exact"):
        raise ValueError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}, exact")
    if Path(model).suffix == ".sacc":
        record = {"file": model, "program": asdict(program_size(load_program(model)))}
        if json:
            common.print_json(record)
        else:
            _print_program(record["program"])
        return
    opened = open_model(model)
    if opened.packed and opened.file is not None:
        if export is not None:
            raise ValueError(f"{model}: is a packed file already")
        record = {"file": str(opened.file), "exact": asdict(exact_size(opened.file))}
    else:
        network = common.ours(opened)
        with tempfile.TemporaryDirectory() as folder:
            target = export or Path(folder) / "packed.safetensors"
            save_packed(network, target, common.noise(opened, 2), opened.classes, opened.input_shape)
            record = {"file": str(export) if export else None, "exact": asdict(exact_size(target))}
        if preset != "exact":
            counted = model_size(network, preset)
            record["counted"] = {"preset": preset, "bits": counted.bits, "by_kind": counted.by_kind()}
            record["counted"]["fp32_equivalents"] = counted.fp32_equivalents
        record["parameters"] = sum(p.numel() for p in network.parameters())
        try:
            program = lower(network.eval(), common.noise(opened, 1), classes=opened.classes)
            record["program"] = asdict(program_size(program))
        except ValueError as error:
            record["program"] = None
            record["no_program"] = str(error)
    if json:
        common.print_json(record)
        return
    if "counted" in record:
        for kind, bits in record["counted"]["by_kind"].items():
            print(f"{kind:<9} {bits / 8:>14,.1f} bytes")
        total = record["counted"]["bits"]
        print(f"{preset:<9} {total / 8:>14,.1f} bytes ({total / 8e3:,.1f} kB, {total / 1e6:.2f} Mbit)")
        alike = record["counted"]["fp32_equivalents"]
        print(f"{'':<9} as much as {alike:,.0f} numbers of 32 bits; parameters: {record['parameters']:,}")
    exact = record["exact"]
    print(f"packed    {exact['total']:>14,} bytes: {exact['payload']:,} of numbers, {exact['header']:,} of header")
    if record.get("program"):
        _print_program(record["program"])
    elif "no_program" in record:
        print(f"program                none: {record['no_program']}")
    if record["file"]:
        print(f"{'is' if 'counted' not in record and 'parameters' not in record else 'wrote'} {record['file']}")


def _print_program(size: dict[str, int]) -> None:
    kinds = f"{size['weights']:,} of weights, {size['other']:,} of thresholds, {size['header']:,} of records"
    print(f"program   {size['total']:>14,} bytes: {kinds}")
