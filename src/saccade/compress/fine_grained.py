"""Fine-grained distillation: queries, keys and values of each attention learn from those of a teacher.

Source: Qiu et al. (2025), QSD-Transformer, FGD. Its released code holds none of it and its text was not public to us: which
distance and which weight is meant is not known. The similarity form is that of Li et al. (2022), Q-ViT, from which the paper's
quantizer comes; it needs no equal scale of spikes and real numbers.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from saccade.layers.attention.base import attention_parts, to_heads

FORMS = ("similarity", "mse")


def similarity_distance(teacher: Tensor, student: Tensor, heads: int) -> Tensor:
    """Mean over steps, samples and heads of ``||G(teacher) - G(student)||^2`` (Frobenius), each G over its own norm.

    ``G = X X^T`` of the tokens of a head, ``[L, L]``, from maps ``[T, N, C, H, W]``; C may differ. It is worked out as
    ``2 - 2 ||X^T Y||^2 / (||X^T X|| ||Y^T Y||)``, from matrices of channels: no L x L is made. A head without a spike, which
    has no similarities, is 1 away from any other.
    """
    x, y = (to_heads(maps.float(), heads) for maps in (teacher, student))  # [T, N, h, d, L]
    theirs, ours, both = (_squares(a @ b.transpose(-1, -2)) for a, b in ((x, x), (y, y), (x, y)))
    size = (theirs.clamp(min=_LEAST) * ours.clamp(min=_LEAST)).sqrt()
    there = (theirs > _LEAST).float(), (ours > _LEAST).float()
    return (there[0] + there[1] - 2 * both / size).mean()


def mse_distance(teacher: Tensor, student: Tensor, heads: int) -> Tensor:
    """Mean squared difference of maps ``[T, N, C, H, W]``, every token of a head by itself at mean 0 and variance 1."""
    tokens = [to_heads(maps.float(), heads).transpose(-1, -2) for maps in (teacher, student)]
    x, y = (F.layer_norm(part, part.shape[-1:]) for part in tokens)
    return F.mse_loss(y, x)


DISTANCES = {"similarity": similarity_distance, "mse": mse_distance}
_LEAST = 1e-12


def check_pair(teacher: nn.Module, student: nn.Module, form: str) -> None:
    """Raises ValueError for an unknown form or attentions that are no pairs."""
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    theirs, ours = attention_parts(teacher), attention_parts(student)
    if not ours:
        raise ValueError(f"fgd teaches queries, keys and values, and {type(student).__name__} has no attention")
    if list(theirs.values()) != list(ours.values()):
        raise ValueError(
            f"fgd pairs queries, keys and values in order: the teacher has {len(theirs)} with heads "
            f"{sorted(set(theirs.values()))}, the student {len(ours)} with heads {sorted(set(ours.values()))}"
        )


def fine_grained_distance(teacher: list[Tensor], student: list[Tensor], heads: list[int], form: str) -> Tensor:
    """Mean over the pairs of the distance of that form. Raises ValueError for pairs of other sizes."""
    total = student[0].new_zeros((), dtype=student[0].float().dtype)
    for target, output, h in zip(teacher, student, heads, strict=True):
        same = slice(None) if form == "mse" else slice(0, 2)
        if target.shape[same] != output.shape[same] or target.shape[3:] != output.shape[3:]:
            raise ValueError(
                f"teacher and student differ in time, batch or places: {[*target.shape]}, {[*output.shape]}"
            )
        total = total + DISTANCES[form](target, output, h)
    return total / len(student)


def _squares(x: Tensor) -> Tensor:
    return x.square().sum((-2, -1))
