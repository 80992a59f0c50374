"""What following costs: the published convention, and what each window of a recording takes, measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from saccade.graph import observe
from saccade.layers import Conv2d
from saccade.measure import profile
from saccade.models.sdtrack import SDTrack
from saccade.track.live import Step
from saccade.track.tracker import Tracker

MAC_PJ, AC_PJ = 4.6, 0.9  # 45 nm, Horowitz (2014)
# Of sdtrack_tiny on simulated spikes, as the released energy script of Shan et al. (2025) lists them: how often the neurons in
# front of each convolution fire, as a share of their highest level, in the order of the network; queries, keys and values once.
PUBLISHED_RATES: tuple[tuple[float, ...], ...] = (
    (0.3537, 0.1438, 0.1759, 0.1910, 0.1035),
    (0.2112,),
    (0.3255, 0.1884, 0.1535, 0.2745, 0.0783),
    (0.2528,),
    (0.3704, 0.2049, 0.1431, 0.3291, 0.0722),
    (0.2882, 0.1511, 0.1817, 0.2628, 0.0676),
    (0.2431,),
    (0.2912, 0.1492, 0.2897, 0.0745),
    (0.2728, 0.2344, 0.2573, 0.0692),
    (0.2543, 0.2737, 0.2467, 0.0594),
    (0.2471, 0.2266, 0.2331, 0.0520),
    (0.2295, 0.2718, 0.2187, 0.0479),
    (0.2127, 0.2776, 0.2088, 0.0559),
    (0.2137,),
    (0.2350, 0.2977, 0.2423, 0.0466),
    (0.2202, 0.2032, 0.1997, 0.0388),
    (0.2081, 0.1972, 0.2069, 0.2084),  # score
    (0.2081, 0.2101, 0.2064, 0.2063),  # size
    (0.2081, 0.2003, 0.2115, 0.2294),  # offset
)
# And the sums that it logs for the products q k^T, and (q k^T) v, of the eight attentions.
PUBLISHED_PRODUCTS = (
    (2_470_033, 1_133_355, 975_112, 1_106_898, 785_140, 812_550, 710_353, 433_240),
    (44_982_358, 15_525_178, 11_519_087, 16_147_058, 7_494_488, 9_898_700, 10_047_538, 3_122_735),
)


class Layer(NamedTuple):
    """A convolution: its path, the multiply-accumulates that its shapes make, how often its input fires (None: no spikes)."""

    path: str
    macs: int
    rate: float | None


def layers(model: SDTrack, x: Tensor) -> list[Layer]:
    """The convolutions of a model on an input, in order, with the published rates. Raises ValueError for another than tiny."""
    found: dict[str, int] = {}

    def note(path: str, module: Conv2d, args: tuple[Tensor, ...], y: Tensor) -> None:
        fan_in = module.weight[0].numel()
        found[path] = found.get(path, 0) + y.numel() * fan_in

    with torch.inference_mode(), observe(model, lambda _, module: isinstance(module, Conv2d), note):  # type: ignore[arg-type]
        model(x)
    rates: list[float | None] = [None]  # the first convolution reads frames
    for group in PUBLISHED_RATES[:-3]:
        rates += [group[0]] * 2 + list(group) if len(group) == 4 else list(group)  # q, k and v read the same spikes
    for group in PUBLISHED_RATES[-3:]:
        rates += [*group, None]  # the last convolution of a branch reads currents
    if len(rates) != len(found):
        raise ValueError(
            f"the published rates are of the {len(rates)} convolutions of sdtrack_tiny; here are {len(found)}"
        )
    return [Layer(path, macs, rate) for (path, macs), rate in zip(found.items(), rates, strict=True)]


def published_mj(network: Sequence[Layer], steps: int = 4, as_printed: bool = True, first_once: bool = False) -> float:
    """Energy of a frame by the published convention, millijoules.

    ``steps (4.6 pJ sum of MACs + 0.9 pJ (sum of MACs times rate + sums of products))``, steps = T D; the first convolution and
    the last of each branch are multiply-accumulates. as_printed: with the operations as the released script has them: half of
    what the shapes make, but all of them in the convolution between the attentions, a quarter in the first depthwise one, and
    20,480 for the three last ones. first_once: the first convolution is not paid again in every virtual step, as its input does
    not change. Source: Shan et al. (2025) and its released script.
    """
    mac = ac = first = 0.0
    for number, layer in enumerate(network):
        macs = float(layer.macs)
        if as_printed and layer.rate is None and number:
            macs = 4096.0 if "offset" in layer.path else 8192.0  # of score, size and offset
        elif as_printed and "widen" not in layer.path:
            macs /= 4 if number == 2 else 2
        if number == 0:
            first = macs
        elif layer.rate is None:
            mac += macs
        else:
            ac += macs * layer.rate
    products = float(sum(map(sum, PUBLISHED_PRODUCTS)))
    paid_once = first / steps if first_once else first
    return steps * (MAC_PJ * (mac + paid_once) + AC_PJ * (ac + products)) * 1e-9


class Cost(NamedTuple):
    """What a window took. energy_uj: counted operations at 45 nm prices (``saccade.measure``, convention "standard").

    spikes: of all neurons, an integer level k counting k times.
    """

    number: int
    stop_us: int
    events: int
    energy_uj: float
    spikes: int


def costs(tracker: Tracker, steps: Iterable[Step]) -> Iterator[Cost]:
    """What the network spends in each window of ``follow(tracker, ...)``; nothing where the box was held without running it.

    A window is measured by running the network on its canvas once more, under the profiler.
    """
    seen: list[Tensor] = []
    run = tracker._answer

    def noted(given: Tensor) -> Tensor:
        seen.append(given)
        return run(given)

    tracker._answer = noted  # type: ignore[method-assign]
    try:
        for step in steps:
            if seen:
                found = profile(tracker.model, seen.pop()[None])
                spikes = sum(row.spikes for row in found.layers)
                yield Cost(step.number, step.window.stop_us, len(step.window.events), found.energy().total_uj, spikes)
            else:
                yield Cost(step.number, step.window.stop_us, len(step.window.events), 0.0, 0)
    finally:
        tracker._answer = run  # type: ignore[method-assign]
