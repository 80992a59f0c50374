"""An evaluation: several attacks on the same images, the worst of them for each, the masking report, in a file that is gone
on with.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade.graph.declared import Reset
from saccade.robust.attacks import ATTACKS, Attack, attack
from saccade.robust.masking import masking_report
from saccade.robust.victim import Victim

FORMAT = "saccade-robustness-1"
PRESETS: dict[str, tuple[str, ...]] = {
    "quick": ("fgsm", "pgd10"),
    "standard": ("fgsm", "pgd", "apgd_ce", "apgd_dlr", "surrogates5", "bptr", "assg", "square"),
    "full": (
        *("fgsm", "rfgsm", "pgd", "pgd100", "mifgsm", "apgd_ce", "apgd_dlr", "apgd_targeted", "mtpgd", "surrogates19"),
        *("bptr", "rga", "hart", "pdsg", "conversion", "assg", "sa_pgd", "cw", "square5000"),
    ),
}
Predict = Callable[[Tensor], Tensor]


def evaluate(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    attacks: str | Sequence[str] | Mapping[str, Attack] = "standard",
    eps: float = 8 / 255,
    low: float = 0.0,
    high: float = 1.0,
    seed: int = 0,
    batch: int = 100,
    draws: int = 1,
    reset: Reset | None = None,
    masking: bool = True,
    also: Mapping[str, Predict] | None = None,
    about: Mapping[str, Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    tell: Callable[[str], object] = lambda words: None,
) -> dict[str, Any]:
    """Attack ``model`` on images ``[N, ...]`` and say how many stay right, by attack and against the worst of all.

    attacks: a preset (quick: minutes, never a headline; standard; full), names, or attacks by name of one's own. Accuracies
    are of all samples, ``success`` of those that were right before. Of a model with noise, gradients are means of ``draws``
    calls, 20 where 1 is given. also: other forms of the model (fewer bits, an integer program) as functions from images to
    logits: how many of the images that were found they still get right. about: kept with the record (name, data, commit).
    out: a file that is written after every batch of every attack; given again, what it holds is not computed
    again, but for ``also``: images are not kept.

    Raises ValueError as ``attack`` does, and for a file of another model, other images or other settings.
    """
    chosen = _chosen(attacks)
    if not len(y):
        raise ValueError("an evaluation needs images")
    victim = Victim(model, reset)
    with victim.open():
        torch.manual_seed(seed)
        noisy = victim.check_noise(x[:1])
    draws = 20 if noisy and draws == 1 else draws
    settings = {
        "eps": eps, "low": low, "high": high, "seed": seed, "batch": batch, "draws": draws,
        "attacks": {name: repr(how) for name, how in chosen.items()},
    }  # fmt: skip
    key = {"model": model_hash(model), "images": _hash(x, y), "settings": json.loads(json.dumps(settings))}
    state = _opened(out, key)
    total = len(y)
    images: dict[str, Tensor] = {}
    for name, how in chosen.items():
        done = state["attacks"].setdefault(
            name, {"clean": "", "robust": "", "forwards": 0, "gradients": 0, "seconds": 0.0}
        )
        kept = []
        for start in range(0, total, batch):
            part = slice(start, min(start + batch, total))
            if len(done["robust"]) >= part.stop and not also:
                continue
            began = time.perf_counter()
            found = attack(
                model, x[part], y[part], how, eps, low=low, high=high, seed=seed + start, draws=draws, reset=reset
            )
            kept.append(found.images)
            if len(done["robust"]) < part.stop:
                done["clean"] += _bits(found.clean)
                done["robust"] += _bits(found.robust)
                done["forwards"] += found.forwards
                done["gradients"] += found.gradients
                done["seconds"] += time.perf_counter() - began
                _write(out, state)
            tell(f"{name}: {part.stop} of {total}, {done['robust'].count('1')} right")
        if also:
            images[name] = torch.cat(kept)
    masks = {name: _mask(done["clean"]) & ~_mask(done["robust"]) for name, done in state["attacks"].items()}
    if masking and "masking" not in state:
        tell("masking report")
        free = frozenset(name for name, how in chosen.items() if how.gradient_free)
        some = slice(0, min(total, batch))
        report = masking_report(
            model, x[some], y[some], eps, low=low, high=high, seed=seed, reset=reset,
            broken={name: mask[some] for name, mask in masks.items()}, gradient_free=free,
        )  # fmt: skip
        state["masking"] = [check.record() for check in report]
        _write(out, state)
    record = _summary(state, total, settings, masks)
    record["about"] = dict(about or {})
    if also:
        record["also"] = _others(also, images, x, y, batch)
    state["summary"] = record
    _write(out, state)
    return record


def _chosen(attacks: str | Sequence[str] | Mapping[str, Attack]) -> dict[str, Attack]:
    if isinstance(attacks, Mapping):
        return dict(attacks)
    if isinstance(attacks, str):
        if attacks not in PRESETS:
            raise ValueError(f"a preset is one of {', '.join(PRESETS)}, got {attacks!r}; attacks are given in a list")
        attacks = PRESETS[attacks]
    if not attacks:
        raise ValueError("no attack is named")
    return {name: ATTACKS[name] for name in attacks}


def _summary(state: dict[str, Any], total: int, settings: dict[str, Any], masks: dict[str, Tensor]) -> dict[str, Any]:
    rows = {}
    for name, done in state["attacks"].items():
        clean, robust = done["clean"].count("1"), done["robust"].count("1")
        rows[name] = _rate(robust, total) | {
            "success": (clean - robust) / max(clean, 1),
            "forwards_per_image": done["forwards"] / total,
            "gradients_per_image": done["gradients"] / total,
            "seconds": round(done["seconds"], 1),
        }
    clean = _mask(next(iter(state["attacks"].values()))["clean"])
    worst = clean & ~torch.stack(list(masks.values())).any(0)
    return {
        "format": FORMAT,
        "model": state["key"]["model"],
        "samples": total,
        "threat": {"norm": "linf", "eps": settings["eps"], "low": settings["low"], "high": settings["high"]},
        "settings": settings,
        "clean": _rate(int(clean.sum()), total),
        "attacks": rows,
        "worst": _rate(int(worst.sum()), total),
        "masking": state.get("masking"),
        "alarms": [check["name"] for check in state.get("masking") or [] if check["alarm"]],
    }


def _others(also: Mapping[str, Predict], images: dict[str, Tensor], x: Tensor, y: Tensor, batch: int) -> dict[str, Any]:
    """Of other forms of the model: right on the images, and on what every attack made of them."""
    found = {}
    for name, predict in also.items():

        def right(pictures: Tensor, predict: Predict = predict) -> Tensor:
            answers = [predict(part).argmax(1) for part in pictures.split(batch)]
            return torch.cat(answers) == y

        by_attack = {how: right(made) for how, made in images.items()}
        clean = right(x)
        worst = clean & torch.stack(list(by_attack.values())).all(0)
        found[name] = {
            "clean": _rate(int(clean.sum()), len(y)),
            "attacks": {how: _rate(int(mask.sum()), len(y)) for how, mask in by_attack.items()},
            "worst": _rate(int(worst.sum()), len(y)),
        }
    return found


def _rate(count: int, total: int) -> dict[str, Any]:
    """A share with its interval of 95 %, Wilson (1927)."""
    z, p = 1.96, count / total
    middle, half = p + z * z / (2 * total), z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return {
        "right": count,
        "accuracy": p,
        "low": max((middle - half) / scale, 0.0),
        "high": min((middle + half) / scale, 1.0),
    }


def model_hash(model: nn.Module) -> str:
    """Of the class and all parameters and buffers of a model."""
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _hash(x: Tensor, y: Tensor) -> str:
    digest = hashlib.sha256(x.cpu().contiguous().numpy().tobytes())
    digest.update(y.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _opened(out: Any, key: dict[str, Any]) -> dict[str, Any]:
    if out is None or not Path(out).exists():
        return {"format": FORMAT, "key": key, "attacks": {}}
    try:
        state = json.loads(Path(out).read_text())
        before = state["key"]
    except (ValueError, KeyError, TypeError, OSError):
        raise ValueError(f"{out}: no evaluation of saccade, or a damaged one; give another file") from None
    for part in ("model", "images", "settings"):
        if before.get(part) != key[part]:
            raise ValueError(f"{out}: belongs to an evaluation with other {part}; give another file")
    return dict(state)


def _write(out: Any, state: dict[str, Any]) -> None:
    if out is None:
        return
    aside = Path(out).with_name(Path(out).name + ".part")
    aside.write_text(json.dumps(state, indent=1) + "\n")
    os.replace(aside, out)


def _bits(mask: Tensor) -> str:
    return "".join("1" if value else "0" for value in mask.tolist())


def _mask(bits: str) -> Tensor:
    return torch.tensor([bit == "1" for bit in bits])
