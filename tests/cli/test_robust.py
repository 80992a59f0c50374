"""``saccade attack`` and what becomes of its evaluations."""

import json
from pathlib import Path

import pytest
import torch

from saccade.cli.main import run
from saccade.report.robustness import read_evaluation, write_leaderboard

pytest.importorskip("sklearn", reason="the digits need scikit-learn")
CHECKPOINT = str(Path(__file__).parents[2] / "checkpoints" / "digits.safetensors")
QUICK = ["attack", CHECKPOINT, "--set-name", "digits", "--images", "24", "--attack", "fgsm", "--attack", "pgd10"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robust")
    assert run([*QUICK, "--eps", "0.1", "--out", str(folder / "one.json"), "--name", "digits, as it is"]) == 0
    return folder


def test_an_evaluation_is_kept_and_gone_on_with(kept, capsys):
    capsys.readouterr()
    assert run([*QUICK, "--eps", "0.1", "--out", str(kept / "one.json"), "--name", "digits, as it is", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["clean"]["accuracy"] > 0.85
    assert record["worst"]["right"] <= record["attacks"]["pgd10"]["right"] < record["clean"]["right"]
    assert record["alarms"] == []
    assert run(["robust", "report", str(kept / "one.json")]) == 0
    said = capsys.readouterr().out
    assert "worst of all" in said
    assert "zero_gradients" in said


def test_evaluations_compare_and_make_a_page(kept, capsys, tmp_path):
    assert run([*QUICK, "--eps", "0.05", "--out", str(tmp_path / "other.json"), "--no-masking"]) == 0
    capsys.readouterr()
    assert run(["robust", "compare", str(kept / "one.json"), str(kept / "one.json")]) == 0
    assert "alarms" in capsys.readouterr().out
    assert run(["robust", "compare", str(kept / "one.json"), str(tmp_path / "other.json")]) == 2
    assert "different threats" in capsys.readouterr().err
    (tmp_path / "one.json").write_text((kept / "one.json").read_text())
    assert run(["robust", "page", str(tmp_path)]) == 0
    page = (tmp_path / "leaderboard.html").read_text()
    assert "digits, as it is" in page
    assert page.count("<table>") == 2  # a table a threat
    assert "not to be trusted" in page  # the one without the report


def test_wrong_files_and_numbers_are_one_line(kept, capsys, tmp_path):
    whole = json.loads((kept / "one.json").read_text())
    for change, said in (
        (lambda r: r.pop("summary"), "was not finished; give its command again"),
        (lambda r: r["summary"].pop("worst"), "no evaluation of saccade: worst"),
        (lambda r: r["summary"]["clean"].update(accuracy=2), "no evaluation of saccade: clean.accuracy"),
        (lambda r: r["summary"]["worst"].update(right=99), "more are right after an attack than before it"),
    ):
        record = json.loads(json.dumps(whole))
        change(record)
        (tmp_path / "bad.json").write_text(json.dumps(record))
        with pytest.raises(ValueError, match=said) as error:
            read_evaluation(tmp_path / "bad.json")
        assert "\n" not in str(error.value)
    (tmp_path / "bad.json").write_text("[1")
    with pytest.raises(ValueError, match="bad.json: no evaluation of saccade"):
        write_leaderboard(tmp_path)
    assert run([*QUICK, "--eps", "8/0"]) == 2
    assert "no number and no fraction" in capsys.readouterr().err
    assert run([*QUICK, "--eps", "0.2", "--out", str(kept / "one.json")]) == 2
    assert "an evaluation with other settings" in capsys.readouterr().err
    assert run(["attack", CHECKPOINT, "--set-name", "digits", "--attack", "pdg"]) == 2
    assert "unknown attack 'pdg'; did you mean pdsg or pgd" in capsys.readouterr().err
    assert run([*QUICK, "--device", "gpu"]) == 2
    assert "--device: auto, cpu or cuda, got 'gpu'" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_gpu_is_one_line(capsys):
    assert run([*QUICK, "--device", "cuda"]) == 2
    assert "there is no CUDA device here" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_attacks_run_on_a_gpu(tmp_path, kept):
    out = tmp_path / "gpu.json"
    assert run([*QUICK, "--eps", "0.1", "--out", str(out), "--also", CHECKPOINT, "--device", "cuda"]) == 0
    found, expected = (read_evaluation(file) for file in (out, kept / "one.json"))
    assert found.clean == expected.clean
    assert abs(found.worst.right - expected.worst.right) <= 2
