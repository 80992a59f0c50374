"""Energy of a SynA-ResNet from its published shapes and firing rates, by the arithmetic of its paper.

Source: Shan et al. 2023 (arXiv 2311.06570), the convention of its evaluation scripts, per sample and over T steps:

    first convolution (analog)   MAC  = (Cin*k*k - 1) * Hout*Wout*Cout * T
    other convolutions (spikes)  AC   = (Cin*k*k - 1) * Hout*Wout*Cout * rate_in * T
    batch norm                   MAC += C*H*W * T
    max-pool                     AC  += C*Hout*Wout*k*k * T
    classifier                   mult = Cin*Cout * T,  add = (Cin - 1)*Cout * T
    attention, once per sample   MAC += TA: (T-1)*T/4 + (T/4-1)*T;  CA: (C-1)*C/8 + (C/8-1)*C;  SA: (2*k*k-1)*H*W
    E = 3.7 pJ * (mult + MAC) + 0.9 pJ * (add + MAC + AC)

The scripts deviate from it in the ways listed in `DEFECTS`. By default nothing is copied; a defect that is named is.
For a network of ours, `Profile.energy("orrc")` applies the same formulas to what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

ADD_PJ, MULT_PJ = 0.9, 3.7

DEFECTS = {
    "energy_without_attention": "the energy is computed before the attention modules are added to the MACs",
    "shortcut_rate": "shortcut convolutions take the rate of the layer listed before them, not of the block's input",
    "prepool_rate": "the convolution after the max-pool takes the rate before it",
    "table_sizes": "convolutions and norms take the output size typed in the table, even where it is not that of the neurons",
    "gate_sizes": "spatial gates have the kernels and sizes of the 128x128 network, whatever the resolution",
    "classifier_adds": "the classifier adds Cin*Cin*T times instead of (Cin-1)*Cout*T",
}
_GESTURE_MAIN = ((7, 32), (7, 32), (3, 16), (3, 8), (3, 4))  # kernel, size of the spatial gates at 128x128 input
_GESTURE_SHORTCUT = (16, 8, 4)


@dataclass(frozen=True)
class OrrcGate:
    """An attention gate: `kind` T, C or S; `size` its T, C or side H = W; `kernel` of S.

    A gate on `shortcut` 1, 2, ... (0: backbone) spikes at `rate`, once per sample for each of its elements.
    """

    kind: str
    size: int
    kernel: int = 0
    shortcut: int = 0
    rate: float = 0.0

    @property
    def macs(self) -> float:
        """Multiply-accumulates per sample."""
        if self.kind == "S":
            return (2 * self.kernel**2 - 1) * self.size**2
        hidden = self.size / (4 if self.kind == "T" else 8)
        return (self.size - 1) * hidden + (hidden - 1) * self.size

    @property
    def spikes(self) -> float:
        """Spikes per sample (spiking gates)."""
        return self.rate * (self.size**2 if self.kind == "S" else self.size)


@dataclass(frozen=True)
class OrrcNetwork:
    """Shapes and rates of a SynA-ResNet with one neuron layer per convolution, in order.

    neurons: `(C, H, W)` each; rates: spikes per neuron and step; convs: `(Cin, Cout, k, Hout)`. A layer in `shortcuts`
    projects the input of the pair of convolutions listed before it, and the pair's output is joined with its own by OR:
    the next layer's input, of rate `rates_after_or`. classifier: `(Cin, Cout)`. maxpool: `(C, H, W, k)` of the output
    of the pool after layer 0, if any, and `rate_after_pool` the rate there (not published). pruned: shortcuts (1, 2,
    ...) that are removed whole.
    """

    T: int
    neurons: tuple[tuple[int, int, int], ...]
    rates: tuple[float, ...]
    rates_after_or: tuple[float, ...]
    convs: tuple[tuple[int, int, int, int], ...]
    classifier: tuple[int, int]
    maxpool: tuple[int, int, int, int] | None = None
    rate_after_pool: float | None = None
    shortcuts: tuple[int, ...] = (7, 12, 17)
    pruned: tuple[int, ...] = ()
    gates: tuple[OrrcGate, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.neurons) == len(self.rates) == len(self.convs):
            raise ValueError(f"{len(self.convs)} convs, {len(self.neurons)} neuron shapes, {len(self.rates)} rates")
        if len(self.shortcuts) != len(self.rates_after_or):
            raise ValueError(f"{len(self.shortcuts)} shortcuts, but {len(self.rates_after_or)} rates after OR")


@dataclass(frozen=True)
class OrrcTotals:
    """Per sample. `neurons` and `spikes_per_neuron` are without pruned shortcuts; `_all` counts their neurons too.

    Gate spikes are in `spikes`, gate neurons in neither, as in the paper. `mac` includes the attention modules.
    """

    spikes: float
    neurons: int
    neurons_all: int
    ac: float
    mac: float
    mult: float
    add: float
    energy_pj: float

    @property
    def spikes_per_neuron(self) -> float:
        """Spikes over all steps per neuron, pruned shortcuts left out."""
        return self.spikes / self.neurons

    @property
    def spikes_per_neuron_all(self) -> float:
        """Spikes over all steps per neuron, the neurons of pruned shortcuts included."""
        return self.spikes / self.neurons_all

    @property
    def energy_mj(self) -> float:
        """Energy in millijoules."""
        return self.energy_pj * 1e-9


def orrc_energy(net: OrrcNetwork, defects: frozenset[str] = frozenset()) -> OrrcTotals:
    """Totals of a network by the paper's convention; with `defects` (keys of `DEFECTS`), as its scripts compute them.

    Raises:
        ValueError: an unknown defect, or a max-pool without `rate_after_pool` (unless `prepool_rate` is asked for).
    """
    unknown = sorted(defects - DEFECTS.keys())
    if unknown:
        raise ValueError(f"unknown defect {unknown[0]!r}; known: {', '.join(DEFECTS)}")
    pruned = {net.shortcuts[i - 1] for i in net.pruned}
    spikes = ac = mac = 0.0
    neurons = neurons_all = 0
    for i, ((channels, height, width), (c_in, c_out, k, size)) in enumerate(zip(net.neurons, net.convs, strict=True)):
        neurons_all += channels * height * width
        if i in pruned:
            continue
        neurons += channels * height * width
        spikes += net.rates[i] * net.T * channels * height * width
        outputs = net.T * c_out * (size * size if "table_sizes" in defects else height * width)
        taps = (c_in * k * k - 1) * outputs
        mac += outputs + (taps if i == 0 else 0)
        ac += taps * _input_rate(net, i, defects) if i else 0
    if net.maxpool:
        channels, height, width, k = net.maxpool
        ac += channels * height * width * k * k * net.T
    gates = [gate for gate in _gates(net, defects) if gate.shortcut not in net.pruned or not gate.shortcut]
    attention = sum(gate.macs for gate in gates)
    features, classes = net.classifier
    mult = features * classes * net.T
    add = (features * features if "classifier_adds" in defects else (features - 1) * classes) * net.T
    paid = mac + (0 if "energy_without_attention" in defects else attention)
    energy_pj = MULT_PJ * (mult + paid) + ADD_PJ * (add + paid + ac)
    spikes += sum(gate.spikes for gate in gates)
    return OrrcTotals(spikes, neurons, neurons_all, ac, mac + attention, mult, add, energy_pj)


def _input_rate(net: OrrcNetwork, i: int, defects: frozenset[str]) -> float:
    if i in net.shortcuts:
        return net.rates[i - 1] if "shortcut_rate" in defects else _input_rate(net, i - 2, defects)
    if i - 1 in net.shortcuts:
        return net.rates_after_or[net.shortcuts.index(i - 1)]
    if i == 1 and net.maxpool and "prepool_rate" not in defects:
        if net.rate_after_pool is None:
            raise ValueError(
                "the rate after the max-pool is not known: give rate_after_pool, or the defect prepool_rate"
            )
        return net.rate_after_pool
    return net.rates[i - 1]


def _gates(net: OrrcNetwork, defects: frozenset[str]) -> tuple[OrrcGate, ...]:
    if "gate_sizes" not in defects or not any(gate.kind == "S" for gate in net.gates):
        return net.gates
    kept = tuple(gate for gate in net.gates if gate.kind != "S")
    main = tuple(OrrcGate("S", size, kernel) for kernel, size in _GESTURE_MAIN)
    on_shortcuts = tuple(
        OrrcGate("S", _GESTURE_SHORTCUT[gate.shortcut - 1], 3, gate.shortcut, gate.rate)
        for gate in net.gates
        if gate.kind == "S" and gate.shortcut
    )
    return kept + main + on_shortcuts
