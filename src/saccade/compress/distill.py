"""Learning from a trained network as well as from labels: its membrane potentials, its firing rates, its logits, or what its
attentions mix.

Sources: Wei et al. (2025), S2NN, arXiv 2509.24266 (MPFD, and the two that it compares with: LGKD on logits, FRFD on rates);
Qiu et al. (2025), QSD-Transformer, arXiv 2501.13492 (FGD, see ``compress.fine_grained``).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from saccade.compress.fine_grained import check_pair, fine_grained_distance
from saccade.files import load_model
from saccade.graph import outputs
from saccade.layers import recomputes
from saccade.layers.attention.base import attention_parts
from saccade.models import SpikingModel
from saccade.neurons import recording
from saccade.train.losses import Autocast, ExtraLoss, read_out

METHODS = ("mpfd", "rates", "logits", "fgd")
NORMS = ("frobenius", "rows", "spectral")


def gram(features: Tensor, norm: str = "frobenius") -> Tensor:
    """Similarities of the samples of a batch, ``[T, N, ...] -> [T, N, N]``: ``F F^T`` over its norm, F ``[N, features]``.

    norm: "frobenius", "rows" (each row by its own length) or "spectral" (largest singular value); the paper does not say
    which. Whatever the shape of a layer, its Gram matrix is N x N, so that teacher and student need not have equal layers.
    """
    flat = features.flatten(2).float()
    similar = flat @ flat.transpose(1, 2)
    if norm == "rows":
        return similar / similar.norm(dim=2, keepdim=True).clamp(min=1e-12)
    if norm == "spectral":
        return similar / torch.linalg.matrix_norm(similar, 2, keepdim=True).clamp(min=1e-12)
    if norm != "frobenius":
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
    return similar / torch.linalg.matrix_norm(similar, keepdim=True).clamp(min=1e-12)


def feature_distance(
    teacher: Sequence[Tensor], student: Sequence[Tensor], use_gram: bool = True, norm: str = "frobenius"
) -> Tensor:
    """Mean over layers and steps of ``||G_teacher - G_student||^2``; without Gram, of the mean squared difference.

    ``teacher``, ``student``: potentials (or spikes) ``[T, N, ...]`` of the paired layers. The paper sums over layers and steps
    under a weight that it does not give; the mean keeps one weight useful for any depth and T. Source: S2NN, MPFD.
    """
    total = torch.zeros((), device=student[0].device)
    for target, output in zip(teacher, student, strict=True):
        if target.shape[:2] != output.shape[:2]:
            raise ValueError(f"teacher and student differ in time or batch: {list(target.shape)}, {list(output.shape)}")
        if use_gram:
            total = total + (gram(target, norm) - gram(output, norm)).square().sum((1, 2)).mean()
        elif target.shape != output.shape:
            raise ValueError(
                f"without Gram matrices layers must be alike: {list(target.shape)}, {list(output.shape)}; use gram"
            )
        else:
            total = total + F.mse_loss(output.float(), target.float())
    return total / len(student)


def distill(
    student: SpikingModel,
    teacher: SpikingModel,
    method: str = "mpfd",
    weight: float = 1.0,
    gram: bool = True,
    norm: str = "frobenius",
    temperature: float = 1.0,
    form: str = "similarity",
) -> ExtraLoss:
    """What to add to a loss so that ``student`` also learns from ``teacher``, frozen and in eval mode.

    "mpfd": potentials before reset of all neuron layers, paired in order. No surrogate lies on the way back from a potential,
    so silent neurons learn too. "rates": mean spikes over time instead. "logits": Kullback-Leibler divergence of the
    read-outs, softened by ``temperature`` (times its square). "fgd": queries, keys and values of all attentions, paired in
    order; form: "similarity" (of the tokens of a head) or "mse" (of normalised features).

    >>> extra = distill(student, teacher)
    >>> with extra(images, contextlib.nullcontext) as more:
    ...     loss = criterion(logits := student(images, steps=True), labels) + more(logits)

    Raises ValueError for an unknown method or norm, another number of classes, steps or neuron layers.
    """
    if teacher is student:
        raise ValueError("a network cannot be its own teacher: the teacher is frozen; give a copy")
    if method not in METHODS:
        raise ValueError(f"unknown distillation {method!r}; known: {', '.join(METHODS)}")
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
    if teacher.num_classes != student.num_classes:
        raise ValueError(f"the teacher knows {teacher.num_classes} classes, the student {student.num_classes}")
    if method == "fgd":
        check_pair(teacher, student, form)
    if method != "logits" and teacher.T != student.T:
        raise ValueError(f"the teacher has {teacher.T} steps, the student {student.T}; {method} compares step by step")
    with recording(teacher) as theirs, recording(student) as ours:
        if method in ("mpfd", "rates") and len(theirs) != len(ours):
            raise ValueError(
                f"{method} pairs neuron layers in order: the teacher has {len(theirs)}, the student {len(ours)}"
            )
    if method != "logits" and recomputes(student):
        raise ValueError(
            f"{method} watches inside blocks, which run without gradients first when recomputed: switch that off"
        )
    teacher.eval().requires_grad_(False)
    watch = {"mpfd": recording, "rates": _spikes, "logits": _nothing, "fgd": _parts}[method]
    heads = list(attention_parts(student).values())

    @contextlib.contextmanager
    def extra(x: Tensor, autocast: Autocast) -> Iterator[Callable[[Tensor], Tensor]]:
        teacher.to(x.device)  # a student may have moved since
        with torch.no_grad(), autocast(), watch(teacher) as theirs:
            lesson = teacher(x, steps=True)
        with watch(student) as ours:

            def more(logits: Tensor) -> Tensor:
                if method == "logits":
                    return weight * _divergence(
                        read_out(lesson, teacher.readout), read_out(logits, student.readout), temperature
                    )
                pairs = [[*chain.from_iterable(kept.values())] for kept in (theirs, ours)]
                if method == "fgd":
                    return weight * fine_grained_distance(pairs[0], pairs[1], heads, form)
                if method == "rates":
                    pairs = [[one.mean(0, keepdim=True) for one in side] for side in pairs]
                return weight * feature_distance(pairs[0], pairs[1], gram, norm)

            yield more

    return extra


def teacher_loss(student: SpikingModel, model_file: str | os.PathLike[str], **options: Any) -> ExtraLoss:
    """As ``distill``, from a model file. Raises ValueError for a file that cannot be loaded, too."""
    return distill(student, load_model(model_file), **options)


def _divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    soft = (teacher.float() / temperature).log_softmax(-1)
    return F.kl_div((student.float() / temperature).log_softmax(-1), soft, log_target=True, reduction="batchmean") * (
        temperature**2
    )


@contextlib.contextmanager
def _spikes(model: SpikingModel) -> Iterator[Mapping[str, list[Tensor]]]:
    """As ``recording``, of spikes."""
    with recording(model) as layers:
        paths = list(layers)
    with outputs(model, paths) as spikes:
        yield spikes


@contextlib.contextmanager
def _parts(model: SpikingModel) -> Iterator[Mapping[str, list[Tensor]]]:
    """As ``recording``, of what the attentions mix."""
    with outputs(model, list(attention_parts(model))) as parts:
        yield parts


@contextlib.contextmanager
def _nothing(model: SpikingModel) -> Iterator[Mapping[str, list[Tensor]]]:
    yield {}
