"""Energy of counted operations under a named convention.

A convention bills each measured operation as so many multiply-accumulates, accumulates, ... and prices each. `STANDARD`
bills what was counted at the usual 45 nm prices (32-bit float: multiplication 3.7 pJ, addition 0.9 pJ; Horowitz 2014,
ISSCC, fig. 1.1.9); `ORRC` bills by the formulas of Shan et al. 2023 (see `saccade.measure.orrc`) on measured rates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from saccade.graph.records import OpRecord


@dataclass(frozen=True)
class Bill:
    """Operations to be paid for: like `Counts`, but possibly fractional (a formula times a rate)."""

    mac: float = 0
    ac: float = 0
    mult: float = 0
    norm: float = 0
    comparison: float = 0
    logic: float = 0
    other: float = 0
    neuron_update: float = 0


def bill_counted(op: OpRecord) -> Bill:
    """Every operation as counted: synaptic operations and elementwise additions are accumulates."""
    c = op.counts
    return Bill(
        mac=c.macs,
        ac=c.sops + c.adds,
        mult=c.mults,
        norm=c.norm,
        comparison=c.comparisons,
        logic=c.ands,
        other=c.other,
        neuron_update=c.neuron_updates,
    )


def bill_orrc(op: OpRecord) -> Bill:
    """The formulas of Shan et al. 2023 with rates as measured at each input (their scripts' slips not copied).

    A convolution or matrix product has `fan_in - 1` operations per output, borders included: accumulates times the
    rate (events per input element) if its input is spikes, multiply-accumulates if analog. A matrix product after the
    last neuron is a classifier: `fan_in` multiplications and `fan_in - 1` additions per output, whatever its input.
    Batch norm: a multiply-accumulate per element. Max-pool: an accumulate per tap. Products of two spike tensors,
    which the paper has not, are billed as counted. All else is free.
    """
    taps = (op.fan_in - 1) * op.outputs
    if op.op == "matmul" and op.readout:
        return Bill(mult=op.fan_in * op.outputs, ac=taps)
    if op.op in ("conv", "matmul"):
        if op.spiking == 2:
            return Bill(ac=op.counts.sops)
        return Bill(ac=taps * op.events / op.inputs) if op.spiking and op.inputs else Bill(mac=taps)
    if op.op == "norm":
        return Bill(mac=op.counts.norm)
    return Bill(ac=op.fan_in * op.outputs) if op.op == "maxpool" else Bill()


@dataclass(frozen=True)
class Convention:
    """A way to bill operations, and the price of each in picojoules.

    `norm_pj` 0: batch norm folds into the weights. `neuron_update_pj`, `comparison_pj`, `logic_pj`, `other_pj` are 0,
    as is usual in the field; the counts are listed, so that they can be priced.
    """

    name: str
    bill: Callable[[OpRecord], Bill]
    mac_pj: float = 4.6
    ac_pj: float = 0.9
    mult_pj: float = 3.7
    norm_pj: float = 0.0
    comparison_pj: float = 0.0
    logic_pj: float = 0.0
    other_pj: float = 0.0
    neuron_update_pj: float = 0.0

    def replace(self, **prices: float) -> Convention:
        """The same convention at other prices, e.g. `STANDARD.replace(mac_pj=3.2)`; its name gains a `*`.

        Raises:
            ValueError: not a price of the convention.
        """
        unknown = sorted(prices.keys() - self.prices().keys())
        if unknown:
            raise ValueError(f"no price {unknown[0]!r}; prices are {', '.join(self.prices())}")
        changed: dict[str, Any] = {"name": self.name.removesuffix("*") + "*", **prices}
        return replace(self, **changed)

    def prices(self) -> dict[str, float]:
        """The constants, by name, in pJ."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name.endswith("_pj")}

    def price_pj(self, bill: Bill) -> float:
        """Energy of a bill in pJ."""
        return sum(number * getattr(self, f"{name}_pj") for name, number in asdict(bill).items())


STANDARD = Convention("standard", bill_counted)
ORRC = Convention("orrc", bill_orrc)
CONVENTIONS = {convention.name: convention for convention in (STANDARD, ORRC)}


def named_convention(convention: str | Convention) -> Convention:
    """A convention by name (`standard`, `orrc`), or as it is. Raises ValueError for an unknown name."""
    if isinstance(convention, Convention):
        return convention
    if convention not in CONVENTIONS:
        raise ValueError(f"unknown energy convention {convention!r}; known: {', '.join(CONVENTIONS)}")
    return CONVENTIONS[convention]


@dataclass(frozen=True)
class Energy:
    """Energy per sample, in pJ, by layer; `billed` are the operations per sample that were paid for."""

    convention: Convention
    per_layer_pj: dict[str, float]
    billed: Bill

    @property
    def total_pj(self) -> float:
        """Total in picojoules per sample."""
        return self.convention.price_pj(self.billed)

    @property
    def total_uj(self) -> float:
        """Total in microjoules per sample."""
        return self.total_pj * 1e-6

    @property
    def total_mj(self) -> float:
        """Total in millijoules per sample."""
        return self.total_pj * 1e-9


def energy_of(records: list[OpRecord], samples: int, convention: str | Convention) -> Energy:
    """Energy per sample of the operations of `samples` samples."""
    convention = named_convention(convention)
    per_layer: dict[str, float] = {}
    total = dict.fromkeys((f.name for f in fields(Bill)), 0.0)
    for op in records:
        bill = convention.bill(op)
        per_layer[op.layer] = per_layer.get(op.layer, 0.0) + convention.price_pj(bill) / samples
        for name, number in asdict(bill).items():
            total[name] += number / samples
    return Energy(convention, per_layer, Bill(**total))
