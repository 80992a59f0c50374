"""`profile(model, data)`: run a model and count its spikes and operations, exactly, by layer."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from saccade.graph.alphabet import Alphabet
from saccade.graph.declared import axes_of, levels_of_inputs, peer_levels, peer_reset, spiking_levels
from saccade.graph.observe import observe
from saccade.graph.records import COUNT_NAMES, Counts, NeuronRecord, OpRecord
from saccade.graph.watch import ROOT, eager, tensors_in
from saccade.measure.counter import Counter, Layout
from saccade.measure.energy import STANDARD, Convention, Energy, energy_of, named_convention
from saccade.measure.table import ProfileTable

SCHEMA = "saccade.profile/1"


@dataclass
class LayerRow(Counts):
    """One layer, by module path. Integers are exact totals over all `samples`; see `Counts` for the operations.

    input: spike alphabet of its convolutions or products, "analog", or "" where there are none.
    spikes: binary events emitted (an integer spike is |k| events), over all steps; spikes_per_step: the same by step.
    neurons: neurons of the layer, once per sample. T: time steps they ran. energy_pj: per sample, by the profile's
    convention. state_bytes: what is kept from one step to the next, per sample, as the module says by `state_spec`; where
    `state_assumed`, 32 bits a neuron, since it says nothing. silent: a neuron layer that never fired.
    """

    name: str = ""
    kind: str = ""
    role: str = ""
    input: str = ""
    samples: int = 0
    spikes: int = 0
    neurons: int = 0
    T: int = 0
    neuron_steps: int = 0
    spikes_per_step: tuple[int, ...] = ()
    energy_pj: float = 0.0
    state_bytes: int = 0
    state_assumed: bool = False

    @property
    def firing_rate(self) -> float:
        """Spikes per neuron and step."""
        return self.spikes / self.neuron_steps if self.neuron_steps else 0.0

    @property
    def spikes_per_neuron(self) -> float:
        """Spikes per neuron over all time steps, mean over samples (Shan et al. 2023; Hu et al. 2021)."""
        return self.spikes / (self.neurons * self.samples) if self.neurons else 0.0

    @property
    def silent(self) -> bool:
        """A neuron layer without a single spike."""
        return self.neurons > 0 and self.spikes == 0

    def to_json(self) -> dict[str, Any]:
        """All fields and derived numbers, JSON-serialisable."""
        derived = ("firing_rate", "spikes_per_neuron", "silent")
        return asdict(self) | {"spikes_per_step": list(self.spikes_per_step)} | {k: getattr(self, k) for k in derived}


@dataclass(frozen=True)
class Profile:
    """What `profile` found: rows per layer in order of first work, and the records they are made of."""

    samples: int
    convention: Convention
    records: tuple[OpRecord, ...] = field(repr=False)
    neurons: tuple[NeuronRecord, ...] = field(repr=False)
    kinds: dict[str, str] = field(repr=False)
    states: dict[str, int] = field(
        default_factory=dict, repr=False
    )  # bits that modules keep which are no neurons, by path
    notes: tuple[str, ...] = ()  # what stands in the way of reading the counts as they are meant

    @property
    def layers(self) -> list[LayerRow]:
        """A row for each module that fired or worked."""
        energy = self.energy().per_layer_pj
        return [self._row(name, kind, energy.get(name, 0.0)) for name, kind in self.kinds.items()]

    def _row(self, name: str, kind: str, energy_pj: float) -> LayerRow:
        counts, alphabet, consumes = Counts(), None, False
        for op in self.records:
            if op.layer == name:
                counts.add(op.counts)
                if op.op in ("conv", "matmul"):
                    consumes = True
                    alphabet = _joined(alphabet, op.alphabet)
        shown = (str(alphabet) if alphabet else "analog") if consumes else ""
        known: dict[str, Any] = {"name": name, "kind": kind, "input": shown, "samples": self.samples}
        known["state_bytes"] = _bytes(self.states.get("" if name == ROOT else name, 0))
        for neuron in self.neurons:
            if neuron.layer == name:
                known |= {"role": neuron.role, "spikes": neuron.spikes, "neurons": neuron.neurons}
                known |= {"neuron_steps": neuron.updates, "T": len(neuron.spikes_per_step)}
                known |= {"spikes_per_step": tuple(neuron.spikes_per_step)}
                known |= {"state_assumed": neuron.state_bits is None}
                bits = 32 * neuron.neurons if neuron.state_bits is None else neuron.state_bits
                known["state_bytes"] = _bytes(bits)
        return LayerRow(**asdict(counts), **known, energy_pj=energy_pj)

    def total(self, keep: Callable[[LayerRow], bool] | None = None) -> LayerRow:
        """Sum over the layers that `keep` accepts (all): `total(lambda row: row.role != "gate" and not row.silent)`."""
        rows = [row for row in self.layers if keep is None or keep(row)]
        sums = {name: sum(getattr(row, name) for row in rows) for name in (*COUNT_NAMES, *_SUMMED)}
        steps = max((row.T for row in rows), default=0)
        per_step = [sum(row.spikes_per_step[t] for row in rows if t < row.T) for t in range(steps)]
        assumed = any(row.state_assumed for row in rows)
        return LayerRow(
            name="total", samples=self.samples, T=steps, spikes_per_step=tuple(per_step), state_assumed=assumed, **sums
        )

    def energy(self, convention: str | Convention | None = None) -> Energy:
        """Energy per sample under a convention: a name, or one with other prices (default: the profile's)."""
        return energy_of(list(self.records), self.samples, convention or self.convention)

    def to_json(self) -> dict[str, Any]:
        """The profile as JSON-serialisable data.

        `{format, samples, convention: {name, <price>_pj...}, energy_pj, notes: [text], layers: [row], totals: row,
        by_role: {role: row}}`:
        a row holds the fields of `LayerRow` (counts are integers, totals over all samples; `energy_pj`, `neurons` and
        `state_bytes` are per sample); `by_role` sums the neuron layers marked `""`, `"shortcut"`, `"gate"`, ...
        """
        roles = dict.fromkeys(neuron.role for neuron in self.neurons)
        return {
            "format": SCHEMA,
            "samples": self.samples,
            "convention": {"name": self.convention.name, **self.convention.prices()},
            "energy_pj": self.energy().total_pj,
            "notes": list(self.notes),
            "layers": [row.to_json() for row in self.layers],
            "totals": self.total().to_json(),
            "by_role": {
                role: self.total(lambda row, role=role: row.neurons > 0 and row.role == role).to_json()  # type: ignore[misc]
                for role in roles
            },
        }

    def table(self) -> ProfileTable:
        """Numbers per sample, for people: a rich renderable that takes the columns it has room for, or text by ``str``."""
        return ProfileTable(self)

    def __str__(self) -> str:
        return str(self.table())


_SUMMED = ("spikes", "neurons", "neuron_steps", "energy_pj", "state_bytes")


def _bytes(bits: int) -> int:
    return -(-bits // 8)


def _joined(a: Alphabet | None, b: Alphabet | None) -> Alphabet | None:
    return a.join(b) if a and b else a or b


def _batches(data: Any, inputs: int) -> Iterator[tuple[Tensor, ...]]:
    """The inputs of each batch: its first item, or its first ``inputs`` items."""
    one = isinstance(data, Tensor) or (
        inputs > 1 and isinstance(data, tuple) and len(data) == inputs and all(isinstance(x, Tensor) for x in data)
    )
    for item in [data] if one else data:
        xs = tuple(item[:inputs]) if isinstance(item, tuple | list) else (item,)
        if not all(isinstance(x, Tensor) for x in xs):
            kinds = ", ".join(type(x).__name__ for x in xs)
            raise ValueError(f"expected a tensor, or batches that are tensors or (x, y) pairs, got {kinds}")
        if len(xs) != inputs:
            raise ValueError(f"expected {inputs} inputs in a batch, got {len(xs)}")
        yield xs


def profile(
    model: nn.Module,
    data: Tensor | Iterable[Any],
    *,
    convention: str | Convention = STANDARD,
    batch_dim: int | None = None,
    spiking: Sequence[str] | Mapping[str, Sequence[float]] = (),
    reset: Callable[[nn.Module], object] | None = None,
    time_axis: str | Sequence[str] | None = None,
    input_levels: Sequence[float] | Sequence[Sequence[float] | None] | None = None,
    inputs: int = 1,
) -> Profile:
    """Runs `model` on `data` in eval mode, without gradients, and counts.

    Args:
        model: any module; those with an attribute `levels` are spiking neurons on `[T, N, ...]`.
        data: a tensor, or batches (tensors, or pairs whose first is one): static `[N, C, H, W]` or `[T, N, C, H, W]`.
        convention: `"standard"`, `"orrc"`, or a `Convention`, for the energies in rows, table and JSON.
        batch_dim: axis of `N` in the data; default 0 for 2 and 4 axes (`[N, F]`, `[N, C, H, W]`), 1 for 3 and 5.
        spiking: neurons of others, by class (or base class) name or module path; a mapping gives the values that each may
            emit, {0, 1} otherwise. They may work on `[T, N, ...]`, `[N, T, ...]`, `[N, ...]` a step, or time folded into the
            batch. The neurons of SpikingJelly, snnTorch, Norse and sinabs are known already.
        reset: called with the model before each batch and after the last, for models that keep state between calls; default:
            the way of the frameworks above where their neurons are in it.
        time_axis: of the input: "first" (`[T, N, ...]`), "second" (`[N, T, ...]`) or "none" (`[N, ...]`); one for each of
            several inputs where they differ.
        input_levels: the values that the input may hold (one list for each of several inputs), which is checked: input that is
            spikes costs additions, no multiplications.
        inputs: how many items of a batch the model takes.

    Work that ran once counts once: a stem on a static image, before it is shown for T steps, costs one step.
    Compiled modules are run eagerly. The model is left in the mode it came in. Modules that give spikes though nothing declares
    them are named by a warning and in the profile's `notes`: their arithmetic is counted, their spikes are not.

    Raises:
        ValueError: no data, values outside a declared spike alphabet, neurons fed without a time axis.
        NotImplementedError: an operation on floats for which there is no counting rule.
    """
    convention = named_convention(convention)
    peers = peer_levels(model)
    named = peers | spiking_levels(model, spiking)
    declared = {model.get_submodule(path): levels for path, levels in named.items()}
    rest = reset or (peer_reset if peers else _nothing)
    counter: Counter | None = None
    samples = 0
    notes: list[str] = []
    device = next((p.device for p in model.parameters()), None)
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode(False), torch.no_grad(), eager():
            for batch in _batches(data, inputs):
                xs = tuple(x.clone() if x.is_inference() else x for x in (given.to(device) for given in batch))
                axes = _axes(xs, time_axis, batch_dim)
                levels = levels_of_inputs(input_levels, xs)
                n = xs[0].shape[axes[0][0]]
                if counter is None:
                    counter = Counter(declared, _layouts(model, xs, axes, named, rest))
                    notes += _binary_inputs(xs, levels)
                rest(model)
                floats = [x.dtype.is_floating_point for x in xs]
                counter.begin(
                    xs, n, [Alphabet.of_levels(v) if v and f else None for v, f in zip(levels, floats, strict=True)]
                )
                with counter.watching(model), counter:
                    model(*xs)
                samples += n
            rest(model)
    finally:
        for module, mode in training.items():
            module.training = mode
    if not samples or counter is None:
        raise ValueError("no samples to profile")
    if counter.undeclared:
        notes.append(_undeclared(counter.undeclared))
        warnings.warn(notes[-1], stacklevel=2)
    return Profile(
        samples,
        convention,
        tuple(counter.records.values()),
        tuple(counter.neurons.values()),
        counter.kinds,
        counter.states,
        tuple(notes),
    )


def _nothing(model: nn.Module) -> None:
    """The reset of a model that keeps nothing."""


def _axes(
    xs: tuple[Tensor, ...], time_axis: str | Sequence[str] | None, batch_dim: int | None
) -> tuple[tuple[int, int | None], ...]:
    """Batch and time axis of each input: as said, else by the number of axes."""
    if time_axis is not None:
        return axes_of(time_axis, len(xs))
    found = []
    for x in xs:
        batch = (0 if x.dim() in (2, 4) else 1) if batch_dim is None else batch_dim
        found.append((batch, 0 if batch == 1 else None))
    return tuple(found)


def _layouts(
    model: nn.Module,
    xs: tuple[Tensor, ...],
    axes: tuple[tuple[int, int | None], ...],
    named: Mapping[str, Sequence[float]],
    rest: Callable[[nn.Module], object],
) -> dict[nn.Module, Layout]:
    """Where the neurons of others keep samples and steps: told from a run with one sample more."""
    if not named:
        return {}
    n = xs[0].shape[axes[0][0]]
    steps = next((x.shape[time] for x, (_, time) in zip(xs, axes, strict=True) if time is not None), 1)
    batch_first = any(time == 1 for _, time in axes)
    more = tuple(torch.cat([x, x.narrow(batch, 0, 1)], batch) for x, (batch, _) in zip(xs, axes, strict=True))
    shapes: list[dict[str, list[torch.Size]]] = []
    for given in (xs, more):
        seen: dict[str, list[torch.Size]] = {}

        def note(
            path: str, module: nn.Module, args: Any, output: Any, seen: dict[str, list[torch.Size]] = seen
        ) -> None:
            tensors = tensors_in(output)
            if tensors:
                seen.setdefault(path, []).append(tensors[0].shape)

        probe = copy.deepcopy(model)  # which may be left in any state
        rest(probe)
        with observe(probe, list(named), note):
            probe(*(x.clone() for x in given))
        shapes.append(seen)
    found = {}
    for path, calls in shapes[0].items():
        y, other = calls[0], shapes[1].get(path, calls)[0]
        grown = [i for i, (a, b) in enumerate(zip(y, other, strict=False)) if a != b]
        if len(y) != len(other) or len(grown) != 1 or y[grown[0]] % n:
            raise ValueError(f"{path or ROOT}: no telling which axis of {list(y)} holds the {n} samples")
        batch, fold = grown[0], y[grown[0]] // n
        time = 0 if batch == 1 else None
        if batch == 0 and fold == 1 and batch_first and len(calls) == 1 and len(y) > 2 and y[1] == steps:
            time = 1
        found[model.get_submodule(path)] = Layout(batch, fold, time)
    return found


def _binary_inputs(xs: tuple[Tensor, ...], levels: list[tuple[float, ...] | None]) -> list[str]:
    """A note on inputs that hold nothing but zeros and ones, though they are not said to be spikes."""
    return [
        f"input {i} holds only 0 and 1 and is billed as analog; if it is spikes, say so (input_levels=(0, 1))"
        for i, (x, known) in enumerate(zip(xs, levels, strict=True))
        if known is None and x.dtype.is_floating_point and x.any() and bool(((x == 0) | (x == 1)).all())
    ]


def _undeclared(found: Mapping[str, str]) -> str:
    paths = list(found)
    shown = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
    classes = list(dict.fromkeys(found.values()))
    return (
        f"{shown} ({', '.join(classes[:3])}) give spikes, but nothing declares them: their arithmetic is counted, their "
        f"spikes are not. Name them: spiking={classes[:3]} (--spiking {classes[0]})"
    )
