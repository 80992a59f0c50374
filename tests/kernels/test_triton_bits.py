"""Spikes as bits in Triton against plain torch: on a GPU, or in Triton's interpreter, as the LIF's (see test_triton_lif)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from saccade.kernels import bits, has_triton, use

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
needs_triton = pytest.mark.skipif(not has_triton(), reason="Triton is not installed")
on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture(params=["cpu"] if INTERPRETED else [pytest.param("cuda", marks=on_gpu)])
def device(request):
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("grid", bits.GRIDS)
@pytest.mark.parametrize("shape", [(1,), (63,), (3, 5, 7), (4, 1024), (2, 3, 33, 31)])
@needs_triton
def test_planes_and_values_are_those_of_plain_torch(grid, dtype, shape, device):
    torch.manual_seed(0)
    x = ((torch.randint(0, 1 << grid.planes, shape) + grid.low) * grid.unit).to(device, dtype)
    with use("reference"):
        expected = bits.pack(x, grid)
    with use("triton"):
        found = bits.pack(x, grid)
        again = bits.unpack(*found)
    assert torch.equal(found.planes, expected.planes)
    assert torch.equal(again, x)
    assert again.dtype == x.dtype


@pytest.mark.parametrize("wrong", [0.5, 2.0, -1.0, float("nan"), float("inf"), -float("inf")])
@needs_triton
def test_a_value_off_the_grid_is_seen_wherever_it_is(wrong, device):
    for at in (0, 4095, 4096, 5000):
        x = torch.zeros(5001, device=device)
        x[at] = wrong
        with use("triton"):
            assert bits.pack(x, bits.Grid()) is None


@needs_triton
def test_any_dense_order_of_memory_and_nothing(device):
    x = (torch.rand(4, 6, 5, 5, device=device) < 0.3).float().to(memory_format=torch.channels_last)
    with use("triton"):
        found = bits.pack_any(x)
        again = bits.unpack(*found)
        assert again.stride() == x.stride()
        assert torch.equal(again, x)
        empty = bits.pack_any(x[:0])
        assert bits.unpack(*empty).shape == (0, 6, 5, 5)


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="in the interpreter already")
def test_packing_in_the_interpreter():
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:benchmark", __file__],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
