"""Every command on real data, and every error in one line with its exit code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import saccade
from saccade.cli.main import run
from saccade.experiment import dump
from saccade.files import load_model

pytest.importorskip("sklearn", reason="the digits need scikit-learn")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A small OR network with both attentions, trained through the command line."""
    folder = tmp_path_factory.mktemp("cli")
    from saccade.experiment import parse

    recipe = parse(
        {
            "name": "cli-digits",
            "model": {
                "name": "syna_resnet18",
                "config": {
                    "stem": "mnist",
                    "T": 4,
                    "widths": [8, 16],
                    "pairs": [1, 1],
                    "neuron": "tet",
                    "position": "b",
                },
            },
            "data": {"name": "digits", "validation": 100, "train_size": 400},
            "train": {"epochs": 4, "batch_size": 32, "lr": 0.01, "accelerator": "cpu"},
            "stages": ["profile", "natural_pruning", "samples"],
        }
    )
    (folder / "recipe.yaml").write_text(dump(recipe))
    assert run(["train", str(folder / "recipe.yaml"), "--out", str(folder / "run"), "--quiet", "--set", "seed=0"]) == 0
    return folder / "run"


def answer(capsys, *arguments, code=0):
    assert run([str(a) for a in arguments]) == code
    captured = capsys.readouterr()
    return captured.out if code in (0, 1) else captured.err


def refused(capsys, *arguments):
    """The error's one line."""
    err = answer(capsys, *arguments, code=2)
    assert err.startswith("saccade: ")
    assert err.count("\n") == 1
    return err


def test_train_leaves_a_whole_run(trained):
    expected = {
        "model.safetensors",
        "metrics.csv",
        "summary.json",
        "report.html",
        "profile.json",
        "pruning.json",
        "samples.npz",
    }
    assert expected <= {path.name for path in trained.iterdir()}
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["test_accuracy"] > 0.3
    assert summary["profile"]["spikes_per_image"] > 0
    assert not any(path.suffix == ".part" for path in trained.rglob("*"))


def test_the_report_needs_no_network(trained):
    page = (trained / "report.html").read_text()
    for needle in ("Learning", "Confusion", "Spikes and energy", "Shortcuts and gates", "Natural pruning", "Samples"):
        assert needle in page
    links = [part for part in page.split('"') if part.startswith(("http", "//"))]
    assert all("www.w3.org" in link for link in links)  # name spaces, not addresses that are fetched
    assert page.count("<svg") > 10


def test_evaluate_agrees_with_the_summary(trained, capsys):
    found = json.loads(answer(capsys, "evaluate", trained, "--json"))
    summary = json.loads((trained / "summary.json").read_text())
    assert found["correct"] == summary["test_correct"]
    assert found["confusion"] == summary["confusion"]
    assert "accuracy" in answer(capsys, "evaluate", trained / "model.safetensors", "--split", "validation")


def test_predict(trained, capsys, tmp_path):
    from sklearn.datasets import load_digits

    pixels = (load_digits().images[0] / 16 * 255).astype("uint8")
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    found = json.loads(answer(capsys, "predict", trained, tmp_path / "digit.png", "--json", "--top", "10"))
    assert sum(item["probability"] for item in found[0]["classes"]) == pytest.approx(1)
    assert "digit.png:" in answer(capsys, "predict", trained, tmp_path / "digit.png")


def test_one_bad_picture_does_not_stop_the_others(trained, capsys, tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.new("L", (8, 8), 200).save(good)
    bad.write_bytes(b"no picture")
    assert run(["predict", str(trained), str(bad), str(good), "--json"]) == 2
    captured = capsys.readouterr()
    first, second = json.loads(captured.out)
    assert "unreadable image" in first["error"]
    assert second["classes"]
    assert captured.err.count("\n") == 1


def test_profile(trained, capsys):
    found = json.loads(answer(capsys, "profile", trained, "--images", 20, "--json"))
    assert found["totals"]["spikes"] > 0
    assert all(row["spikes_per_neuron"] <= row["T"] for row in found["layers"] if row["neurons"])  # binary spikes
    assert "blocks.0.backbone.2" in answer(capsys, "profile", trained, "--images", 20)
    orrc = json.loads(answer(capsys, "profile", trained, "--images", 20, "--convention", "orrc", "--json"))
    assert orrc["energy_pj"] != found["energy_pj"]
    assert "stem" in answer(capsys, "profile", "or_resnet18_small")


def test_profile_memory(trained, capsys):
    """The layers' bytes add up, and twice the images keep twice the memory."""
    found = json.loads(answer(capsys, "profile", trained, "--memory", 16, "--json"))
    assert found["format"] == "saccade-memory-1"
    assert found["kept_bytes"] == sum(found["kept_by_layer"].values())
    assert found["peak_bytes"] > 0.5 * found["kept_bytes"]
    double = json.loads(answer(capsys, "profile", trained, "--memory", 32, "--json"))
    assert double["kept_bytes"] == pytest.approx(2 * found["kept_bytes"], rel=0.05)
    assert "kept for backward" in answer(capsys, "profile", "or_resnet18_small", "--memory", 2)


def test_fuse(trained, capsys, tmp_path):
    target = tmp_path / "fused.safetensors"
    words = answer(capsys, "fuse", trained, "--out", target, "--images", 50)
    assert "norms folded, 0 left" in words
    found = json.loads(answer(capsys, "fuse", trained, "--out", target, "--images", 50, "--json"))
    assert found["total_mismatch"] < 1e-3
    assert not any("norm" in key for key in load_model(target).state_dict())
    before = json.loads(answer(capsys, "evaluate", trained, "--json"))
    after = json.loads(answer(capsys, "evaluate", target, "--set-name", "digits", "--json"))
    assert after["accuracy"] == pytest.approx(before["accuracy"], abs=0.01)
    assert "something lies between the norm and a neuron" in refused(
        capsys, "fuse", trained, "--into", "threshold", "--out", tmp_path / "t.safetensors"
    )
    assert not (tmp_path / "t.safetensors").exists()


def test_prune(trained, capsys, tmp_path):
    found = json.loads(answer(capsys, "prune", trained, "--out", tmp_path / "p.safetensors", "--json"))
    words = answer(capsys, "prune", trained, "--out", tmp_path / "p.safetensors")
    assert found["removed"], "as published, the time gates of this seed never open"
    assert found["measured"] == {"samples": 500, "differing_samples": 0, "largest_difference": 0.0, "equal": True}
    assert "logits on the training and validation data: identical (500 images)" in words
    assert (tmp_path / "p.safetensors").exists()


def test_the_story_ends_at_the_chosen_epoch(trained, tmp_path):
    """A shortcut that fired only after the epoch that became the model did not close before it."""
    import shutil

    from saccade.experiment import RunDirectory, splits_for
    from saccade.experiment.stages import prune_run

    shutil.copytree(trained, tmp_path / "run")
    run_ = RunDirectory(tmp_path / "run")
    rows = run_.metrics()
    rows[-1]["rate/blocks.1.shortcut.neuron"] = 0.25
    run_.rewrite_metrics(rows)
    arguments = (
        load_model(run_.path / "model.safetensors"),
        run_.recipe(),
        splits_for(run_.recipe()),
        run_,
    )
    stories = [prune_run(*arguments, chosen)[1]["shortcuts"][0]["story"] for chosen in (len(rows) - 2, len(rows) - 1)]
    assert stories[0].startswith("never opened")
    assert stories[1].startswith("closed in training: it fired before (up to 0.25")


def test_verify(trained, capsys):
    assert "PASS" in answer(capsys, "verify", trained)
    found = json.loads(answer(capsys, "verify", "or_resnet18_small", "--json"))
    assert found["passed"] is True


def test_info_agrees_with_the_commands_that_it_sums_up(trained, capsys, tmp_path):
    found = json.loads(answer(capsys, "info", trained, "--json"))
    size = json.loads(answer(capsys, "compress", "size", trained, "--json"))
    assert (found["parameters"], found["bytes_packed"]) == (size["parameters"], size["exact"]["total"])
    profiled = json.loads((trained / "profile.json").read_text())
    assert found["energy_uj"] == pytest.approx(profiled["energy_pj"] * 1e-6)
    assert found["state_bytes"] == profiled["totals"]["state_bytes"]
    time = found["latency"]
    assert 0 < time["low_ms"] <= time["median_ms"] <= time["high_ms"]
    assert time["calls"] >= 10
    assert found["peak_bytes"] > 0
    words = answer(capsys, "info", "vgg_small")
    assert "311,114" in words
    assert re.search(r"integer program +yes", words)
    assert "did you mean vgg_small" in refused(capsys, "info", "vgg_smal")
    answer(capsys, "compress", "size", trained, "--export", tmp_path / "packed.safetensors")
    packed = json.loads(answer(capsys, "info", tmp_path / "packed.safetensors", "--json"))
    assert packed["bytes_packed"] == (tmp_path / "packed.safetensors").stat().st_size


def test_a_first_try_is_short_and_can_be_repeated(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        out = answer(capsys, "train", "syna_resnet/digits-or", "--smoke", "--set", "train.warmup_epochs=3")
        assert "chosen epoch 1 of 1" in out
    (place,) = (tmp_path / "runs").iterdir()
    assert place.name == "syna_resnet-digits-or-smoke-seed0"
    summary = json.loads((place / "summary.json").read_text())
    assert summary["images"] == {"train": 512, "validation": 150, "test": 256}
    assert summary["stages_done"] == ["profile", "natural_pruning", "samples"]
    (place / "recipe.yaml").unlink()
    assert "exists and is no earlier run" in refused(capsys, "train", "syna_resnet/digits-or", "--smoke")


def test_a_first_try_shortens_stages_too():
    from saccade.experiment.smoke import _shortest

    config = {"name": "prune", "config": {"ratio": 0.4, "batches": 5, "finetune": {"epochs": 3, "lr": 1.0}}}
    assert _shortest([config])[0]["config"] == {"ratio": 0.4, "batches": 1, "finetune": {"epochs": 1, "lr": 1.0}}


def test_catalogues(capsys):
    assert "syna_resnet18" in answer(capsys, "models")
    assert json.loads(answer(capsys, "models", "or_resnet18", "--json"))[0]["parameters"] == 11_173_962
    assert "syna_resnet/digits-demo" in answer(capsys, "recipes")
    assert "label_smoothing: 0.0" in answer(capsys, "recipes", "syna_resnet/digits-demo")
    assert "cifar10" in answer(capsys, "data", "list")
    assert "label_smoothing: 0.0" in answer(capsys, "tasks")
    assert "tau: 2.0" in answer(capsys, "neurons")
    assert "natural_pruning" in answer(capsys, "stages")
    assert "digits is ready" in answer(capsys, "data", "prepare", "digits", "--data", ".")
    assert answer(capsys, "--version").strip() == saccade.__version__
    for command in (
        "train",
        "evaluate",
        "predict",
        "profile",
        "prune",
        "verify",
        "models",
        "recipes",
        "tasks",
        "stages",
        "report",
        "demo",
        "data",
    ):
        assert len(answer(capsys, command, "--help")) > 200


def test_every_packaged_recipe_is_valid_and_its_model_builds():
    from saccade.experiment import load_recipe, recipe_names, recipe_path
    from saccade.models import create_model

    assert len(recipe_names()) >= 5
    for name in recipe_names():
        recipe = load_recipe(recipe_path(name))
        assert recipe.name == name
        assert recipe.notes
        if recipe.model.start:  # goes on from another recipe's model file
            continue
        with torch.device("meta"):
            create_model(recipe.model.name, **recipe.model.config)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nothing"], "no recipe 'nothing'"),
        (["train", "syna_resnet/digit-or"], "did you mean syna_resnet/digits-or"),
        (["train", "digit-or"], "did you mean syna_resnet/digits-or"),
        (["train", "syna_resnet/digits-or", "--set", "train.epoch=1"], "saccade: syna_resnet/digits-or: train.epoch"),
        (["train", "syna_resnet/digits-or", "--set", "model.name=vgg_smal"], "did you mean vgg_small"),
        (["profile", "vgg_smal"], "did you mean vgg_small"),
        (["verify", "vgg_smal"], "did you mean vgg_small"),
        (["fuse", "vgg_smal"], "did you mean vgg_small"),
        (["compress", "size", "vgg_smal"], "did you mean vgg_small"),
        (["evaluate", "vgg_small"], "vgg_small: a registered model has no weights yet"),
        (["train"], "which recipe?"),
        (
            ["train", "syna_resnet/digits-demo", "--set", "train.epoch=1"],
            "train.epoch: unknown key, did you mean 'epochs'?",
        ),
        (["train", "--resume", "nowhere"], "cannot read the run's recipe"),
        (["train", "x", "--resume", "nowhere"], "--resume goes on with the run's own recipe"),
        (["evaluate", "nowhere"], "nowhere: neither a model file nor a run directory"),
        (["report", "nowhere"], "nowhere: holds no finished run"),
        (["prune", "nowhere"], "nowhere: neither a model file"),
        (["models", "alexnet*"], "no model matches 'alexnet*'"),
        (["data", "prepare", "imagnet"], "did you mean imagenet?"),
        (["wrong"], "No such command 'wrong'"),
        (["evaluate"], "Missing argument"),
        (["demo", "--out", "."], "exists and is no earlier run of syna_resnet/digits-demo"),
    ],
)
def test_errors_are_one_line(capsys, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_a_card_that_is_not_there_is_one_line(capsys, tmp_path):
    arguments = ("train", "syna_resnet/digits-or", "--out", tmp_path / "run", "--set", "train.accelerator=cuda")
    assert "train.accelerator: there is no CUDA device here" in refused(capsys, *arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("group", [[], ["data"], ["compress"], ["dehaze"]])
def test_a_command_of_commands_alone_prints_its_help(group, capsys):
    assert run(group) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Usage: saccade")
    assert any(line.startswith("Commands:") for line in lines)


def test_a_registered_name_is_fused_and_sized(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "6 norms folded, 0 left" in answer(capsys, "fuse", "vgg_small")
    assert (tmp_path / "vgg_small-fused.safetensors").exists()
    assert "1,240,448.0 bytes" in answer(capsys, "compress", "size", "vgg_small")


def test_errors_about_files(trained, capsys, tmp_path):
    bad = tmp_path / "m.safetensors"
    bad.write_bytes(b"not a model")
    assert "m.safetensors: not a readable model file" in refused(capsys, "evaluate", bad, "--set-name", "digits")
    whole = (trained / "model.safetensors").read_bytes()
    bad.write_bytes(whole)
    assert "which images?" in refused(capsys, "evaluate", bad)
    (tmp_path / "m.recipe.yaml").write_bytes(
        (trained / "recipe.yaml").read_bytes()
    )  # taken out of its run, as checkpoints are
    known = answer(capsys, "evaluate", bad)
    (tmp_path / "m.recipe.yaml").unlink()
    assert known.splitlines()[-1] == answer(capsys, "evaluate", bad, "--set-name", "digits").splitlines()[-1]
    assert "unknown data set 'digit'" in refused(capsys, "evaluate", bad, "--set-name", "digit")
    assert "needs the run directory" in refused(capsys, "prune", bad)
    assert "no folder cifar-10-batches-bin" in refused(
        capsys, "evaluate", trained, "--set-name", "cifar10", "--data", tmp_path
    )
    picture = tmp_path / "broken.png"
    picture.write_bytes(b"\x89PNG")
    assert "broken.png: unreadable image" in refused(capsys, "predict", trained, picture)
    assert "--split 'all'" in refused(capsys, "evaluate", trained, "--split", "all")


def test_a_damaged_run_is_reported_in_one_line(trained, capsys, tmp_path):
    for name in ("summary.json", "metrics.csv", "pruning.json"):
        broken = tmp_path / name.replace(".", "-")
        broken.mkdir()
        for file in trained.iterdir():
            if file.is_file():
                (broken / file.name).write_bytes(file.read_bytes())
        (broken / name).write_text("epoch\nmany" if name.endswith("csv") else "{")
        assert f"{name}: not" in refused(capsys, "report", broken)


def test_errors_reach_the_shell_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "saccade", "evaluate", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def in_a_terminal(arguments, **options):
    """What a command writes to a terminal, with the seconds since its start."""
    import pty
    import time

    parent, child = pty.openpty()
    start = time.monotonic()
    done = subprocess.Popen([sys.executable, "-m", "saccade", *arguments], stdout=child, stderr=child, **options)
    os.close(child)
    written = []
    while True:
        try:
            data = os.read(parent, 65536)
        except OSError:
            break
        if not data:
            break
        written.append((time.monotonic() - start, data.decode(errors="replace")))
    done.wait()
    os.close(parent)
    return done.returncode, written


@pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
def test_a_command_says_something_before_torch_is_loaded(tmp_path):
    code, written = in_a_terminal(["verify", "nothing_like_this"], cwd=tmp_path)
    assert code == 2
    assert written[0][1].startswith("loading")
    assert written[0][0] < 0.5 * written[-1][0]
    assert "neither a model file" in "".join(text for _, text in written)
    code, written = in_a_terminal(["train", "--help"], cwd=tmp_path)
    assert code == 0
    assert "loading" not in "".join(text for _, text in written)


def test_threads_are_those_that_the_process_may_use(tmp_path, monkeypatch):
    from saccade.cli import machine

    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(machine, "QUOTAS", (str(quota), str(tmp_path / "none")))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for text, cores in (("150000 100000", 2), ("50000 100000", 1), ("max 100000", 8), ("", 8)):
        quota.write_text(text)
        assert machine.usable_cores() == cores
    quota.unlink()
    (tmp_path / "none").write_text("300000")
    (tmp_path / "cpu.cfs_period_us").write_text("100000")
    assert machine.usable_cores() == 3


def test_threads_can_be_said_anywhere(tmp_path):
    code = "import sys; from saccade.cli.main import run; code = run(sys.argv[1:]); import torch; "
    code += "print(torch.get_num_threads()); sys.exit(code)"
    arguments = [sys.executable, "-c", code, "models", "vgg_small", "--threads", "1"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMP")}
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120)
    assert done.returncode == 0
    assert done.stdout.endswith("\n1\n")


def test_importing_the_package_is_quick():
    """Under a second of processor time beyond torch; the command line does not even load torch to show its help."""
    code = "import torch, time; t = time.process_time(); import saccade.models, saccade.train, saccade.data; "
    code += "print(time.process_time() - t)"  # of this process: other jobs on the machine do not count
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert float(done.stdout) < 1.0
    code = "import sys, saccade.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_demo(tmp_path, capsys):
    """`make demo`'s command: at least 90 % of held-out digits, a silent shortcut removed, equal logits."""
    out = answer(capsys, "demo", "--out", tmp_path / "demo", "--quiet")
    assert "never opened" in out or "closed in training" in out
    assert "logits on the training and validation data: identical" in out
    assert (Path(tmp_path) / "demo" / "report.html").exists()


def test_no_advice_names_the_registrys_other_saccade():
    """The distribution is saccade-snn; the name without more belongs to somebody else."""
    root = Path(__file__).parents[2]
    files = [*(root / "src").rglob("*.py"), *(root / "docs").glob("*.md"), root / "README.md", root / "CONTRIBUTING.md"]
    assert len(files) > 100
    for file in files:
        assert not re.search(r"pip install [\"']?saccade(?!-snn)\b", file.read_text(encoding="utf-8")), file
    assert 'name = "saccade-snn"' in (root / "pyproject.toml").read_text()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_verdicts_print_on_any_encoding(encoding):
    done = subprocess.run(
        [sys.executable, "-m", "saccade", "verify", "rows_mlp", "--T", "2"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"passed" in done.stdout


def test_names_in_tables_are_text(capsys):
    from rich.table import Table

    from saccade.cli.common import print_table

    table = Table()
    table.add_column("[red]x")
    table.add_row("[bold]y[/bold]")
    print_table(table)
    shown = capsys.readouterr().out
    assert "[red]x" in shown
    assert "[bold]y[/bold]" in shown
