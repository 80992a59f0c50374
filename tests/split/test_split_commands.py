"""The commands on the real small model, typed in order."""

import contextlib
import csv
import json
import re
import shlex
import threading
import time
import urllib.request
from pathlib import Path

import pytest
import split_models  # noqa: F401  (skips without the extra)
import torch

from saccade.cli.main import run
from saccade.split import runs
from saccade.split.flower_processes import free_port
from saccade.split.keys import make_keys
from saccade.split.local import simulate
from saccade.split.recipe import load_recipe, presets
from saccade.split.world import evaluate, held_out, make_world

QUICK = [
    f"--set={change}"
    for change in ("rounds=2", "steps=4", "clients.count=2", "clients.alpha=1", "data.eval_rows=16", "data.length=64")
]


@pytest.fixture(autouse=True)
def place(text_data, monkeypatch):
    monkeypatch.setenv("SACCADE_DATA", str(text_data.parent))


def printed(capsys, *arguments):
    assert run(["split", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def trained(text_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SACCADE_DATA", str(text_data.parent))
        assert run(["split", "simulate", "small", "--out", str(out), *QUICK]) == 0
    return out


def test_simulate_learns_and_says_what_it_cost(trained, capsys):
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["eval_loss"] < summary["before_loss"] - 0.3
    assert summary["bytes"]["activations"] == 2 * 2 * 4 * 4 * 64 * 64 * 2  # rounds, clients, steps, N, L, D, fp16
    with (trained / "rounds.csv").open() as file:
        assert [row["round"] for row in csv.DictReader(file)] == ["0", "1"]
    page = (trained / "report.html").read_text()
    assert "client-1" in page
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    again = printed(capsys, "simulate", "small", "--out", str(trained), *QUICK)  # finished: nothing is done twice
    assert again["eval_loss"] == summary["eval_loss"]
    assert printed(capsys, "eval", str(trained))["loss"] == summary["eval_loss"]
    assert run(["split", "report", str(trained)]) == 0


@pytest.mark.parametrize("aggregator", ["flexlora", "flora"])
def test_peft_loads_what_export_writes(aggregator, trained, tmp_path):
    import peft
    from transformers import AutoModelForCausalLM

    out = trained
    if aggregator == "flora":
        out = tmp_path / "flora"
        assert run(["split", "simulate", "small", "--out", str(out), *QUICK, "--set=aggregator=flora"]) == 0
    adapter, base = tmp_path / "adapter", tmp_path / "base"
    assert run(["split", "export", str(out), "--out", str(adapter), "--base", str(base)]) == 0
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    blocks = held_out(runs.open_run(out).recipe)
    with torch.no_grad():
        logits = model(input_ids=blocks[0]).logits
        loss = float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), blocks[1].flatten()))
    assert loss == pytest.approx(evaluate(runs.open_run(out).adapted(), blocks)["loss"], abs=1e-5)
    assert loss == pytest.approx(json.loads((out / "summary.json").read_text())["eval_loss"], abs=1e-5)
    assert run(["split", "export", str(out), "--out", str(adapter)]) == 2


def test_partition_writes_what_clients_read(tmp_path, capsys):
    report = printed(capsys, "partition", "small", "--out", str(tmp_path / "parts"), "--set=clients.count=3")
    files = sorted((tmp_path / "parts").glob("client-*.jsonl"))
    assert [len(file.read_text().splitlines()) for file in files] == [row["samples"] for row in report["clients"]]
    assert sum(row["samples"] for row in report["clients"]) == 2183
    assert run(["split", "partition", "small", "--out", str(tmp_path / "parts"), "--set=clients.count=3"]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(presets()))
def test_plans_of_all_presets_need_no_weights(name, capsys):
    plan = printed(capsys, "plan", name)
    cuts = {row["cut"]: row for row in plan["rows"]}
    assert len(cuts) == (4 if name == "small" else 11)
    assert cuts[1]["memory_bytes"] < cuts[2]["memory_bytes"]
    assert cuts[1]["bytes"]["activations"] == cuts[2]["bytes"]["activations"]


def test_bad_input_is_one_line(tmp_path, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x")
    (tmp_path / "bad.yaml").write_text("rounds: [")
    (tmp_path / "long.yaml").write_text("steps: 0")
    make_keys(tmp_path / "keys", ["client-0"])
    (tmp_path / "keys" / "client-0" / "supernode.key").unlink()
    keys, flower = str(tmp_path / "keys"), ["--engine", "flower"]
    for arguments, words in [
        (["plan", "smal"], "no such recipe; did you mean small?"),
        (["plan", str(tmp_path / "bad.yaml")], "not YAML"),
        (["plan", str(tmp_path / "long.yaml")], "steps: Input should be greater than or equal to 1"),
        (["plan", "small", "--set", "lora.rr=3"], "small: lora.rr: Unexpected keyword argument"),
        (["plan", "small", "--set", "cuts.config.cut=9"], "a cut of 9 does not fit"),
        (["plan", "small", "--set", "codec.activations=int9"], "unknown codec 'int9'"),
        (["plan", "small", "--set", "aggregator=fedit"], "fedit averages equal ranks only"),
        (["plan", "small", "--set", "model=nothing"], "nothing: neither here nor in"),
        (["plan", "small", "--set", "clients.profiles=[{memory_bytes: 1000}]"], "a cut of 1 needs"),
        (["simulate", "small", "--out", str(tmp_path / "other")], "holds something else"),
        (["simulate", "small", "--out", str(tmp_path / "a"), "--set", "data.length=600"], "reads 512 tokens at most"),
        (["eval", str(tmp_path)], "no such state of a federation"),
        (["serve", "small", "--out", str(tmp_path / "b"), "--listen", "0.0.0.0:9443"], "it needs --keys"),
        (["serve", "small", "--out", str(tmp_path / "b"), "--listen", "9443"], "--listen is HOST:PORT"),
        (
            ["serve", "small", "--out", str(tmp_path / "b"), "--keys", str(tmp_path)],
            "not a folder of `saccade split keys`",
        ),
        (["serve", "small", "--out", str(tmp_path / "b"), "--set", "server=none"], "server: none splits nothing"),
        (["serve", "small", "--out", str(tmp_path / "b"), "--engine", "x"], "--engine is direct or flower"),
        (
            ["serve", "small", "--out", str(tmp_path / "b"), "--keys", f"{keys}/server", *flower],
            "client-1.pub: no such",
        ),
        (
            ["client", "localhost:1", "--name", "client-0", "--data", "x", "--keys", f"{keys}/client-0", *flower],
            "supernode.key: no such SuperNode key",
        ),
        (["client", "localhost:1", "--name", "a/b", "--data", "wikitext-2/valid.txt"], "a client's name has"),
        (["client", "localhost:1", "--name", "a", "--data", "nothing.txt"], "nothing.txt: neither here nor in"),
    ]:
        assert run(["split", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert words in error, error
        assert error.count("\n") == 1


def test_serve_and_clients_over_mutual_tls(tmp_path, capsys):
    """The commands of two terminals, here in threads; the result is the simulation's, and the live page shows the
    run."""
    stream, page = free_port(), free_port()
    assert run(["split", "keys", str(tmp_path / "keys"), "--count", "2"]) == 0
    assert run(["split", "partition", "small", "--out", str(tmp_path / "parts"), *QUICK]) == 0
    codes, seen = {}, []

    def command(name, *words):
        codes[name] = run(["split", *words])

    def look():
        while "server" not in codes:
            with contextlib.suppress(OSError):
                answer = urllib.request.urlopen(f"http://127.0.0.1:{page}/", timeout=5)
                with answer:
                    seen.append((answer.headers["Content-Security-Policy"], answer.read().decode()))
            time.sleep(0.1)

    server = ["serve", "small", "--out", str(tmp_path / "run"), "--listen", f"127.0.0.1:{stream}"]
    server += ["--keys", str(tmp_path / "keys" / "server"), "--live", f"127.0.0.1:{page}", *QUICK]
    threads = [threading.Thread(target=command, args=("server", *server)), threading.Thread(target=look)]
    for i in range(2):
        words = [
            "client",
            f"127.0.0.1:{stream}",
            "--name",
            f"client-{i}",
            "--data",
            str(tmp_path / "parts" / f"client-{i}.jsonl"),
        ]
        threads.append(
            threading.Thread(target=command, args=(i, *words, "--keys", str(tmp_path / "keys" / f"client-{i}")))
        )
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert codes == {"server": 0, 0: 0, 1: 0}, capsys.readouterr()
    recipe = load_recipe("small", [change.removeprefix("--set=") for change in QUICK])
    want, made = simulate(recipe, make_world(recipe)), runs.open_run(tmp_path / "run")
    assert all(
        torch.equal(x, y) for s in want.adapters for x, y in zip(want.adapters[s], made.adapters[s], strict=True)
    )
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["engine"] == "direct"
    assert any("client-1" in body and "training" in body for _, body in seen)
    assert all(policy.startswith("default-src 'none'") for policy, _ in seen)


def test_the_first_commands_of_the_page(tmp_path, monkeypatch):
    """As they stand, but shorter; audit has a test of its own."""
    page = (Path(__file__).parents[2] / "docs" / "split.md").read_text()
    lines = re.search(r"```sh\n(.*?)```", page, re.DOTALL)[1].splitlines()
    monkeypatch.chdir(tmp_path)
    typed = [shlex.split(line, comments=True)[2:] for line in lines if line.startswith("saccade split")]
    assert [words[0] for words in typed] == ["plan", "partition", "simulate", "eval", "export", "audit"]
    for words in typed[:-1]:
        quick = QUICK if words[0] in ("plan", "partition", "simulate") else []
        assert run(["split", *words, *quick]) == 0, words
    assert (tmp_path / "adapter" / "adapter_config.json").exists()
    assert (tmp_path / "base" / "config.json").exists()


@pytest.mark.slow
def test_two_hundred_steps(tmp_path):
    """One client, 200 steps: the held-out loss falls from 5.4 to below 3.6 nats; int8 costs less than 0.01."""
    found = {}
    for codec in ("fp32", "int8"):
        changes = [
            f"codec.activations={codec}",
            f"codec.gradients={codec}",
            "clients.count=1",
            "rounds=10",
            "data.eval_every=10",
        ]
        recipe = load_recipe("small", changes)
        world = make_world(recipe)
        before = evaluate(world.base, world.held_out)["loss"]
        found[codec] = simulate(recipe, world).history[-1]["eval_loss"]
    assert 5.3 < before < 5.5
    assert found["fp32"] < 3.6
    assert abs(found["int8"] - found["fp32"]) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper", "paper-opt", "paper-gpt-neo"])
def test_real_shapes_with_random_weights(name, text_data):
    """A round of two clients on 125 million random weights, over the cut that the recipe has; vocabulary and text
    are GPT-2's."""
    short = [
        "rounds=1",
        "steps=1",
        "clients.count=2",
        "clients.min_size=2",
        "data.length=64",
        "data.batch=1",
        "data.eval_rows=2",
    ]
    known = load_recipe(name).model
    recipe = load_recipe(
        name, [*short, f"model=random:{known}", "data.train=wikitext-2/valid.txt", "data.tokenizer=gpt2-bpe"]
    )
    made = simulate(recipe, make_world(recipe))
    assert made.history[0]["finished"] == 2
    assert 10 < made.history[0]["eval_loss"] < 12  # about ln 50257: nothing is known yet
