"""The float network, unrolled over its steps, as ONNX; and its twin without spikes."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade import kernels
from saccade.files.tensors import in_one_line
from saccade.neurons.spiking import Spiking
from saccade.optional import need

OPSET = 18


@dataclass(frozen=True)
class Exported:
    """What was written: nodes of the graph and bytes of the file."""

    nodes: int
    bytes: int


def export_onnx(model: nn.Module, x: Tensor, path: str | os.PathLike[str]) -> Exported:
    """Write a network in eval mode as ONNX (aside, then renamed), by torch's exporter.

    x: a sample ``[N, C, H, W]`` or ``[T, N, C, H, W]``; its dtype is that of the file, and N and T are fixed to it. Neurons
    are written as plain arithmetic, one step after the other: no operators of ours are needed to run it. Input "x", output
    "logits".

    Raises ValueError for a model in training mode, or naming what torch cannot export.
    """
    onnx = need("onnx", "deploy")
    need("onnxscript", "deploy")
    if model.training:
        raise ValueError("a network is exported as it runs: call model.eval() first")
    own = copy.deepcopy(model).to(x.dtype).eval()
    aside = Path(path).with_name(Path(path).name + ".part")
    try:
        with kernels.use("reference"), torch.no_grad(), warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")  # of what torch itself will change
            program = torch.onnx.export(
                own, (x,), dynamo=True, opset_version=OPSET, input_names=["x"], output_names=["logits"], verbose=False
            )
        assert program is not None
        onnx.save(program.model_proto, aside)
        nodes = len(program.model_proto.graph.node)
        os.replace(aside, path)
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        said = in_one_line(error.__cause__ or error)
        raise ValueError(f"{type(model).__name__} cannot be exported to ONNX: {said}") from None
    finally:
        aside.unlink(missing_ok=True)
    return Exported(nodes, Path(path).stat().st_size)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter logs of packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def relu_twin(model: nn.Module) -> nn.Module:
    """A copy whose neurons are ReLUs and which takes one step: what an artificial network of the same layers costs. Its answers
    mean nothing before it is trained.

    Raises ValueError for a model without neurons.
    """
    twin: Any = copy.deepcopy(model)
    found = [path for path, module in twin.named_modules() if isinstance(module, Spiking)]
    if not found:
        raise ValueError(f"{type(model).__name__} has no neurons to replace")
    for path in found:
        parent, _, name = path.rpartition(".")
        setattr(twin.get_submodule(parent), name, nn.ReLU())
    if dataclasses.is_dataclass(getattr(twin, "config", None)) and hasattr(twin.config, "T"):
        twin.config = dataclasses.replace(twin.config, T=1)
    result: nn.Module = twin
    return result
