"""Maps of attention: the command's PNG, the stage and its section."""

import numpy as np
import pytest
import typer
from PIL import Image
from small_models import narrow
from typer.testing import CliRunner

from saccade.cli.attention import attention
from saccade.files import save_model
from saccade.report.heat import COLD, WARM, heat
from saccade.verify import wake

APP = typer.Typer()
APP.command()(attention)


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_a_sheet_of_maps(tmp_path, picture):
    model, x = narrow("spikformer_small", depth=2)
    wake(model, x)
    save_model(model, tmp_path / "m.safetensors")
    out = tmp_path / "maps.png"
    done = CliRunner().invoke(APP, [str(tmp_path / "m.safetensors"), str(picture), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "2 attentions" in done.output
    sheet = np.asarray(Image.open(out))
    assert sheet.shape == (2 * (160 + 6 + 14) + 6, 3 * 166 + 6, 3)
    first, given, middle = (sheet[20:180, 6 + i * 166 : 166 + i * 166] for i in range(3))
    assert len({part.tobytes() for part in (first, given, middle)}) == 3


def test_a_model_without_attention(tmp_path, picture):
    model, _ = narrow("vgg_small")
    save_model(model, tmp_path / "m.safetensors")
    done = CliRunner().invoke(APP, [str(tmp_path / "m.safetensors"), str(picture), "--out", str(tmp_path / "o.png")])
    assert isinstance(done.exception, ValueError)
    assert "has no attention of spikes" in str(done.exception)
    assert not (tmp_path / "o.png").exists()


def test_colours_of_weights():
    white = np.full((3, 2, 2), 255, np.uint8)
    drawn = heat(white, np.array([[0.0, 1.0], [0.5, 0.0]]), side=4)
    assert drawn[:, 0, 0].tolist() == COLD.tolist()
    assert drawn[:, 0, 3].tolist() == WARM.tolist()
    assert (drawn[:, 3, 0] > COLD).any()
    assert np.array_equal(heat(white, np.zeros((2, 2)), 4)[:, 0, 3], COLD)
