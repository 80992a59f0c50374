"""An evaluation by PGD-20 beside torchattacks on SpikingJelly's neurons, in one process.

    python benchmarks/attacks.py --data DATA [--images 1000] [--rounds 3] [--out results/benchmarks/attacks.json]

The network is ``vgg_small`` (T = 4) as a checkpoint trained it or, without ``--model``, untrained but firing; the rival is the
same network written in SpikingJelly as its tutorials do (multi-step, the image repeated over time, ``reset_net`` before each
call), with the same weights and neurons. Both compute the accuracy after 20 steps at 8/255 of the images that the network names
rightly (its own answers, where it is untrained). torchattacks takes 20 gradients of every image and keeps the last iterate;
ours keeps the best, and an image that is misclassified leaves the batch. ``every step`` is ours without that: the same 20
gradients of every image. Rounds are interleaved; ratios are of medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from side_by_side import machine
from torch import Tensor, nn

from saccade.data import load
from saccade.files import load_model
from saccade.models import create_model
from saccade.robust import attack
from saccade.robust.attacks.base import Search
from saccade.robust.attacks.pgd import PGD
from saccade.verify import wake

EPS, STEPS, BATCH = 8 / 255, 20, 100


def theirs(model: nn.Module, T: int) -> nn.Module:
    """The network with SpikingJelly's layers and neurons, and the same weights."""
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def same(module: nn.Module) -> nn.Module:
        if isinstance(module, nn.Conv2d):
            sides = (module.kernel_size, module.stride, module.padding)
            made = layer.Conv2d(module.in_channels, module.out_channels, *sides, bias=module.bias is not None)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            made = layer.BatchNorm2d(module.num_features)
        elif isinstance(module, nn.Linear):
            made = layer.Linear(module.in_features, module.out_features)
        elif "Max" in type(module).__name__:
            return layer.MaxPool2d(2, 2)
        elif "Avg" in type(module).__name__:
            return layer.AvgPool2d(2, 2)
        else:
            return neuron.LIFNode(
                tau=2.0, decay_input=False, v_threshold=1.0, surrogate_function=surrogate.PiecewiseQuadratic(1.0)
            )
        made.load_state_dict(module.state_dict(), strict=False)
        return made

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            norm = model.normalise
            self.mean, self.std = (v.view(1, -1, 1, 1) for v in (norm.mean, norm.std))
            parts = [*model.stem, model.stem_neuron, *model.layers]
            self.body = nn.Sequential(*(same(part) for part in parts))
            self.head = same(model.head)
            functional.set_step_mode(self, "m")

        def forward(self, x: Tensor) -> Tensor:
            functional.reset_net(self)
            x = ((x - self.mean) / self.std).unsqueeze(0).repeat(T, 1, 1, 1, 1)
            return self.head(self.body(x).flatten(2)).mean(0)

    return Net().eval()


class EveryStep(PGD):
    """PGD whose samples stay to the end."""

    def search(self, s: Search) -> None:
        s.drop = False
        super().search(s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/attacks.json"))
    options = parser.parse_args()
    import torchattacks

    torch.manual_seed(0)
    test = load("cifar10", validation=2000, root=options.data).test
    x, y = test.__getitems__(list(range(options.images)))[:2]
    x = x.float() / test.scale
    T = 4
    model = load_model(options.model).eval() if options.model else create_model("vgg_small", T=T)
    if not options.model:
        wake(model, x[:100])
    model.eval()
    rival = theirs(model, T)
    with torch.no_grad():
        answers, others = (torch.cat([m(part).argmax(1) for part in x.split(BATCH)]) for m in (model, rival))
    agree = float((answers == others).float().mean())
    y = torch.as_tensor(y) if options.model else answers
    counted = {"gradients": 0}

    def ours(how: PGD) -> int:
        right = 0
        counted["gradients"] = 0
        for a, b in zip(x.split(BATCH), y.split(BATCH), strict=True):
            found = attack(model, a, b, how, EPS)
            right += int(found.robust.sum())
            counted["gradients"] += found.gradients
        return right

    def library() -> int:
        pgd = torchattacks.PGD(rival, eps=EPS, alpha=EPS * 2.5 / STEPS, steps=STEPS, random_start=True)
        return sum(
            int((rival(pgd(a, b)).argmax(1) == b).sum()) for a, b in zip(x.split(BATCH), y.split(BATCH), strict=True)
        )

    contenders: dict[str, Callable[[], int]] = {
        "saccade": lambda: ours(PGD(steps=STEPS)),
        "saccade, every step": lambda: ours(EveryStep(steps=STEPS)),
        "torchattacks on SpikingJelly": library,
    }
    rows: dict[str, dict[str, Any]] = {name: {"seconds": []} for name in contenders}
    for _ in range(options.rounds):
        for name, call in contenders.items():
            begin = time.perf_counter()
            right = call()
            rows[name]["seconds"].append(round(time.perf_counter() - begin, 2))
            rows[name]["right"] = right
            print(name, rows[name], flush=True)
            if name.startswith("saccade"):
                rows[name]["gradients_per_image"] = counted["gradients"] / len(x)
    slow = statistics.median(rows["torchattacks on SpikingJelly"]["seconds"])
    for row in rows.values():
        row["ratio"] = round(slow / statistics.median(row["seconds"]), 2)
    record = {
        "format": "saccade-benchmark-attacks-1",
        "model": options.model or "vgg_small, untrained",
        "images": len(x),
        "steps": STEPS,
        "eps": EPS,
        "T": T,
        "agree": agree,  # answers of both networks on the images
        "threads": torch.get_num_threads(),
        "rows": rows,
        "machine": machine(),
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({name: row["ratio"] for name, row in rows.items()}))


if __name__ == "__main__":
    main()
