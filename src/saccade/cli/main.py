"""The ``saccade`` command and what its errors look like."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from typing import Annotated

import typer
import typer.core

import saccade
from saccade import plugins
from saccade.cli import (
    analysing,
    attention,
    catalogues,
    common,
    compress,
    dehazing,
    demo,
    deploy,
    events,
    info,
    machine,
    robust,
    splitting,
    track,
    training,
    transformers,
)
from saccade.cli.interrupts import until_done

typer.core.HAS_RICH = False  # or typer before 0.21, which Flower asks for, escapes brackets for rich where rich is off
app = typer.Typer(
    name="saccade",
    help="Spiking vision at the edge: train a spiking network on real images, see where its spikes and joules go, "
    "remove what never fires, and check that it is the function it claims to be.",
    epilog="Exit codes: 0 success, 1 a check failed, 2 bad input, 130 interrupted. "
    "SACCADE_DATA names the folder with the image sets (default: ./data).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
WITHOUT_TORCH = ("report",)  # they begin at once

app.command("demo")(demo.demo)
app.add_typer(catalogues.data_app, name="data")
app.add_typer(dehazing.app, name="dehaze")
app.add_typer(events.events_app, name="events")
app.command("train")(training.train)
app.command("evaluate")(training.evaluate)
app.command("predict")(training.predict)
app.command("profile")(analysing.profile)
app.command("prune")(analysing.prune)
app.command("fuse")(analysing.fuse)
app.add_typer(compress.compress_app, name="compress")
app.add_typer(deploy.app, name="deploy")
app.add_typer(track.track_app, name="track")
app.command("attack")(robust.attack)
app.command("attacks")(catalogues.attacks)
app.add_typer(robust.robust_app, name="robust")
app.command("attention")(attention.attention)
app.add_typer(splitting.app, name="split")
app.command("unroll")(transformers.unroll)
app.command("info")(info.info)
app.command("verify")(analysing.verify)
app.command("models")(catalogues.models)
app.command("recipes")(catalogues.recipes)
app.command("neurons")(catalogues.neurons)
app.command("tasks")(catalogues.tasks)
app.command("ingredients")(catalogues.ingredients)
app.command("stages")(catalogues.stages)
app.command("report")(training.report)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE", help="Import package.module, which adds models, tasks, data sets, stages. Repeatable."
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Threads of one process (default: the cores that it may use)."),
    ] = None,
) -> None:
    machine.set_threads(threads)
    for module in plugin or []:
        plugins.load(module)
    if version:
        print(saccade.__version__)
        raise typer.Exit()
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit()
    if context.invoked_subcommand not in WITHOUT_TORCH and not context.obj["help"]:
        with machine.loading():
            importlib.import_module("saccade.experiment")
    _keep_memory()


def _keep_memory() -> None:
    """Large tensors are kept for the next step instead of going back to the system; see saccade.kernels.keep_memory."""
    with contextlib.suppress(ImportError):  # torch is not loaded for this: many commands do without
        from saccade import _native

        _native.keep_memory()


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every foreseeable error is one line on stderr."""
    until_done(lambda: run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """As ``main``, returning the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal or pipe cannot show becomes a question mark
            stream.reconfigure(errors="replace" if stream is sys.stdout else "backslashreplace")
    try:
        given = sys.argv[1:] if arguments is None else arguments
        code = app(_program_first(given), prog_name="saccade", standalone_mode=False, obj={"help": "--help" in given})
        if code == 130:  # the parser makes a silent exit of Ctrl-C
            return _fail("interrupted", 130)
        return code if isinstance(code, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort) as stop:
        if isinstance(stop.__cause__, EOFError):  # which the parser takes for Ctrl-D
            return _fail(f"a file ends too early ({stop.__cause__ or 'end of file'})", 2)
        return _fail("interrupted", 130)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        return 0
    except (ValueError, OSError, ModuleNotFoundError) as error:
        return _fail(str(error), 2)
    except MemoryError as error:
        return _fail(f"not enough memory ({error})", 2)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # a command of commands, alone: what it offers
            print(error.format_message())  # type: ignore[attr-defined]
            return 0
        if hasattr(error, "format_message"):  # a usage error of the parser
            return _fail(error.format_message(), 2)
        from saccade.train import Interrupted, TrainingError  # torch loads only where it is needed

        if isinstance(error, Interrupted):
            return _fail(str(error), 130)
        if isinstance(error, TrainingError):
            return _fail(str(error), 1)
        raise


PROGRAM_OPTIONS = ("--plugin", "--threads")


def _program_first(arguments: list[str]) -> list[str]:
    """``--plugin MODULE`` and ``--threads N`` moved to the front, wherever they stand: they belong to the program."""
    rest, front = list(arguments), []
    end = rest.index("--") if "--" in rest else len(rest)
    at = 0
    while at < end:
        name, equals, _ = rest[at].partition("=")
        length = 0
        if name in PROGRAM_OPTIONS:
            length = 1 if equals else 2 if at + 1 < end else 0
        front += rest[at : at + length]
        del rest[at : at + length]
        end -= length
        at += length == 0
    return front + rest


def _fail(message: str, code: int) -> int:
    common.complain(message)
    return code
