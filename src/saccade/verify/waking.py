"""Wake a fresh spiking network: without it most layers of a deep one are silent, and every equality holds of zeros."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from saccade.graph import is_neuron, peer_levels, spiking_levels
from saccade.graph.declared import Inputs, Reset, Spiking, as_inputs, axes_of, levels_of_inputs
from saccade.layers import ResidualBlock, WeightForm, batch_norms
from saccade.neurons import Spiking as SpikingNeuron
from saccade.verify.subject import say

BAND = (0.05, 0.5)  # what waking accepts; the 2 to 60 % of the promise leave room for other dtypes and inputs
AIM = (0.15, 0.35)  # what it steers for once a layer lies outside
ATTEMPTS, PATIENCE = 60, 12  # tries a layer, and after how many of them the gates in front of it are made to help
NUDGE = 0.15  # deviations of a norm's output by which the factors of a product are shifted together
MASKED = (
    0.95  # most of the time that a mask over sums of spikes may be open, where less silences the spikes that it sums
)
JOINT = 1e-9  # least rate of an AND of two layers, which may be silent although neither is


class _OutsideError(Exception):
    """Ends a forward pass at the first layer that fires too little or too much."""

    def __init__(
        self,
        path: str,
        rate: float,
        x: Tensor,
        before: list[nn.Module],
        partial: bool = False,
        factors: Sequence[nn.Module] = (),
    ) -> None:
        """``before``: the last layer with a bias, and the layers without one that ran after it (those of gates).

        partial: ``x`` is the input of one of its calls only. factors: the layers with a bias in front of the neurons of the
        same module, where what it is given is a product of their spikes (an attention).
        """
        super().__init__(path)
        self.path, self.rate, self.x, self.before, self.partial = path, rate, x, before, partial
        self.factors = factors


def neurons_of(model: nn.Module) -> dict[str, nn.Module]:
    """Layers of neurons by path: modules with ``levels`` (other than a block that holds such modules)."""
    declared = {path: module for path, module in model.named_modules() if is_neuron(module)}
    return {
        path: module
        for path, module in declared.items()
        if not any(other.startswith(f"{path}.".lstrip(".")) for other in declared if other != path)
    }


def firing_rates(model: nn.Module, x: Inputs, *, spiking: Spiking = (), reset: Reset | None = None) -> dict[str, float]:
    """Fraction of outputs that are not zero, by layer of neurons in execution order, for ``model(x)`` in eval mode.

    spiking, reset: as for ``verify``, for models of others.
    """
    counts: dict[str, list[int]] = {}
    paths = {module: path for path, module in _neurons(model, spiking).items()}

    def count(module: nn.Module, args: object, y: object) -> None:
        seen = counts.setdefault(paths[module], [0, 0])
        spikes = _first(y)
        seen[0] += int(spikes.count_nonzero())
        seen[1] += spikes.numel()

    _in_eval(model, as_inputs(x), [module.register_forward_hook(count) for module in paths], reset)
    return {path: fired / max(total, 1) for path, (fired, total) in counts.items()}


def wake(
    model: nn.Module,
    x: Inputs,
    *,
    spiking: Spiking = (),
    reset: Reset | None = None,
    time_axis: str | Sequence[str] | None = None,
    input_levels: Sequence[float] | Sequence[Sequence[float] | None] | None = None,
) -> dict[str, float]:
    """Make every layer of neurons of a fresh model fire on ``x``; returns the rates that came out, by layer.

    Layer by layer in execution order, all in eval mode and without randomness:

    * each batch norm gets the statistics of what it receives (those that cumulative averaging, ``momentum=None``, gives
      on ``x``), and a weight that starts at zero (MS-ResNet's last norm of a block) the mean weight of the others,
      or the branch would not count;
    * where a layer fires less than 5 % or more than 50 % of the time, the bias of the norm in front of it is shifted
      (without any bias: the last weights in front of it are scaled);
      if that does not do, the weights of the gates in between are made positive; for a neuron with the role "gate" the
      weights of its module are made positive and scaled;
    * where it fires on a product of spikes of its own module (an attention), the biases in front of all its factors are
      shifted together, a little at a time; where that silences them, a mask may be open up to 95 % of the time;
    * where the AND of a backbone and a shortcut is silent although neither of them is, the latter is raised.

    ``x`` is an input of the model (a tuple of several), best a sequence of several different samples. The mode, the momenta and
    every other parameter stay as they were. The result is a network to test, not one to train: it changes how the model starts.
    spiking, reset, time_axis, input_levels: as for ``verify`` (the last two are only checked: a rate is one along any axis).

    Raises ValueError naming a layer that cannot be brought into that range.
    """
    xs = as_inputs(x)
    levels_of_inputs(input_levels, xs)
    if time_axis is not None:
        axes_of(time_axis, len(xs))
    neurons = _neurons(model, spiking)
    norms = list(batch_norms(model).values())
    tries: dict[str, _Search] = {}
    masks: set[str] = set()
    with torch.no_grad():
        _open_branches(norms)
        often = _called_often(model, xs, list(neurons.values()), reset)
        while (outside := _run(model, xs, neurons, norms, often, reset, masks)) is not None:
            search = tries.setdefault(outside.path, _Search())
            search.count += 1
            if search.count > ATTEMPTS:
                path, rate = say(outside.path), outside.rate
                raise ValueError(f"{path} fires {rate:.1%} of the time, whatever the bias in front of it")
            if search.count == PATIENCE:
                _open_gates(outside)
                tries[outside.path] = _Search(PATIENCE)
                continue
            neuron = neurons.get(outside.path)
            if outside.factors and search.count > 2 * PATIENCE and BAND[1] < outside.rate <= MASKED:
                masks.add(outside.path)
                continue
            if outside.factors:
                for layer in outside.factors:
                    layer.bias.add_(NUDGE if outside.rate < BAND[0] else -NUDGE)  # type: ignore[operator]
                continue
            if isinstance(neuron, SpikingNeuron) and neuron.role == "gate":
                _scale_gate(model, outside)
                continue
            knob = _knob(outside)
            missing = _missing(None if outside.partial else neuron, outside, lambda: _rest(model, reset))
            if knob is not None:
                knob.add_(search.next(outside.rate < BAND[0], missing))
            else:
                _scale_weights(outside, search)
    return firing_rates(model, xs, spiking=spiking, reset=reset)


def _neurons(model: nn.Module, spiking: Spiking) -> dict[str, nn.Module]:
    """The layers of neurons: those that say so, those of known frameworks, and those that ``spiking`` names."""
    named = peer_levels(model) | spiking_levels(model, spiking)
    return neurons_of(model) | {path: model.get_submodule(path) for path in named}


def _first(y: object) -> Tensor:
    """The spikes among what a neuron returns: the first tensor."""
    if isinstance(y, Tensor):
        return y
    found = next((leaf for leaf in tree_leaves(y) if isinstance(leaf, Tensor)), None)
    if found is None:
        raise ValueError("a neuron returns its spikes, but this one gave no tensor")
    return found


def _rest(model: nn.Module, reset: Reset | None) -> None:
    if reset is not None:
        reset(model)


def _called_often(
    model: nn.Module, xs: tuple[Tensor, ...], neurons: list[nn.Module], reset: Reset | None
) -> set[nn.Module]:
    """The neurons that a forward pass calls more than once, as where a model goes through time itself."""
    calls: dict[nn.Module, int] = {}

    def count(module: nn.Module, args: object, y: object) -> None:
        calls[module] = calls.get(module, 0) + 1

    _in_eval(model, xs, [module.register_forward_hook(count) for module in neurons], reset)
    return {module for module, count in calls.items() if count > 1}


def _open_branches(norms: list[_BatchNorm]) -> None:
    live = [float(norm.weight.abs().mean()) for norm in norms if norm.affine and norm.weight.any()]
    for norm in norms:
        if norm.affine and not norm.weight.any():
            norm.weight.fill_(sum(live) / len(live) if live else 1.0)


def _run(
    model: nn.Module,
    xs: tuple[Tensor, ...],
    neurons: dict[str, nn.Module],
    norms: list[_BatchNorm],
    often: set[nn.Module],
    reset: Reset | None,
    masks: set[str],
) -> _OutsideError | None:
    """Calibrate the norms up to the first layer outside the band, and say which that is.

    Layers that are called more than once are judged over all their calls, once the pass has ended. ``masks``: paths of those
    that may fire up to ``MASKED`` of the time.
    """
    last: list[nn.Module] = []
    fronts: dict[str, nn.Module] = {}  # neurons that were judged, and the layer with a bias in front of each
    since: list[str] = []  # those that fired since the last layer with weights, gates left out
    calibrated: set[nn.Module] = set()
    judged = set(neurons.values())
    over: dict[
        str, tuple[list[int], list[Tensor], list[nn.Module]]
    ] = {}  # of those called often: counts, inputs, before

    def calibrate(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert isinstance(module, _BatchNorm)
        momentum, module.momentum = module.momentum, None
        if module not in calibrated:
            module.reset_running_stats()
            calibrated.add(module)
        module.train()
        module.forward(args[0])  # the module's own way of folding time and of counting; its hooks do not run
        module.eval()
        module.momentum = momentum

    def passed(module: nn.Module, args: object, y: object) -> None:
        if isinstance(module.bias, nn.Parameter):
            last.clear()
        last.append(module)
        since.clear()

    def judge(path: str, least: float, most: float) -> Callable[..., None]:
        def look(module: nn.Module, args: tuple[Tensor, ...], result: object) -> None:
            y = _first(result)
            fired, total = int(y.count_nonzero()), y.numel()
            if module in often:
                counts, inputs, _ = over.setdefault(path, ([0, 0], [], list(last)))
                counts[0] += fired
                counts[1] += total
                inputs.append(args[0])
                return
            rate = fired / max(total, 1)
            if not least <= rate <= (MASKED if path in masks else most):
                within = f"{path.rpartition('.')[0]}."
                feeding = since and all(other.startswith(within) for other in since)
                factors = [layer for other, layer in fronts.items() if other.startswith(within)] if feeding else []
                raise _OutsideError(path, rate, args[0], last, factors=factors)
            factor = module in judged and getattr(module, "role", "") != "gate"
            if factor and last and isinstance(last[0].bias, nn.Parameter):
                fronts[path] = last[0]
                since.append(path)

        return look

    handles = [norm.register_forward_pre_hook(calibrate) for norm in norms if norm.track_running_stats]
    handles += [
        module.register_forward_hook(passed)
        for module in model.modules()
        if hasattr(module, "bias")
        and hasattr(module, "weight")
        and all(isinstance(child, WeightForm) for child in module.children())
    ]
    handles += [module.register_forward_hook(judge(path, *BAND)) for path, module in neurons.items()]
    handles += [
        module.register_forward_hook(judge(path, JOINT, 1.0))
        for path, module in model.named_modules()
        if isinstance(module, ResidualBlock) and module.joins and module.connection.needs_both  # type: ignore[union-attr]
    ]
    try:
        _in_eval(model, xs, handles, reset)
    except _OutsideError as outside:
        return outside
    for path, (counts, inputs, before) in over.items():
        rate = counts[0] / max(counts[1], 1)
        if not BAND[0] <= rate <= BAND[1]:
            return _OutsideError(path, rate, inputs[0], before, partial=True)
    return None


def _in_eval(
    model: nn.Module,
    xs: tuple[Tensor, ...],
    handles: list[torch.utils.hooks.RemovableHandle],
    reset: Reset | None = None,
) -> None:
    """One forward pass in eval mode with some hooks; the mode of every module is as before, the hooks are gone."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    _rest(model, reset)
    try:
        with torch.no_grad():
            model(*(x.clone() for x in xs))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
        _rest(model, reset)


class _Search:
    """Bisection on the shift of one bias: the largest known to be too low, the smallest known to be too high."""

    def __init__(self, count: int = 0) -> None:
        self.count, self.at = count, 0.0
        self.low, self.high = float("-inf"), float("inf")

    def next(self, too_low: bool, guess: float) -> float:
        """The step to take, given the rate at the present shift and a guess of what is missing."""
        if too_low:
            self.low = self.at
            self.high = self.high if self.high > self.at else float("inf")  # the layers before it have changed
        else:
            self.high = self.at
            self.low = self.low if self.low < self.at else float("-inf")
        there = self.at + guess
        if not self.low < there < self.high:
            bounded = abs(self.low) < float("inf") and abs(self.high) < float("inf")
            there = (self.low + self.high) / 2 if bounded else self.at + (0.5 if too_low else -0.5)
        step, self.at = there - self.at, there
        return step


def _knob(outside: _OutsideError) -> nn.Parameter | None:
    """The bias in front of a layer; None where there are only weights."""
    bias = outside.before[0].bias if outside.before else None
    if isinstance(bias, nn.Parameter):
        return bias
    if not any(isinstance(module.weight, nn.Parameter) for module in outside.before):
        raise ValueError(f"{say(outside.path)}: no layer in front of it has a bias that could wake it")
    return None


def _scale_weights(outside: _OutsideError, search: _Search) -> None:
    """Where nothing has a bias: scale the last weights; bisection on the logarithm of the scale, an eighth at most a step."""
    step = search.next(outside.rate < BAND[0], 0.5 if outside.rate < BAND[0] else -0.5)
    weight = next(module.weight for module in reversed(outside.before) if isinstance(module.weight, nn.Parameter))
    if outside.rate < BAND[0] and not bool((weight > 0).any()):
        weight.abs_()
    weight.mul_(2.0**step)


def _open_gates(outside: _OutsideError) -> None:
    """An analog gate with negative weights closes as the bias rises; with positive ones it opens."""
    for module in outside.before[1:]:
        if isinstance(module.weight, Tensor):
            module.weight.abs_()


def _missing(neuron: nn.Module | None, outside: _OutsideError, rest: Callable[[], None]) -> float:
    """The shift of the neurons' own input that would bring their rate into ``AIM`` (None: not to be tried by itself)."""
    if neuron is None:
        return 0.25 if outside.rate < BAND[0] else -0.25
    scale = float(outside.x.abs().max()) + 1
    low, high = (0.0, 8 * scale) if outside.rate < BAND[0] else (-8 * scale, 0.0)
    middle = 0.0
    for _ in range(24):
        middle = (low + high) / 2
        rest()
        rate = _rate(neuron, outside.x + middle)
        if AIM[0] <= rate <= AIM[1]:
            break
        low, high = (middle, high) if rate < AIM[0] else (low, middle)
    return middle


def _scale_gate(model: nn.Module, outside: _OutsideError) -> None:
    """Give a gate's logits a scale at which its neuron fires: positive weights, the last of them scaled."""
    owner = model.get_submodule(outside.path.rpartition(".")[0])
    neuron = model.get_submodule(outside.path)
    weights = [parameter for parameter in owner.parameters() if parameter.dim() > 1]
    if not weights:
        raise ValueError(f"{say(outside.path)}: its gate has no weights that could open it")
    if any(bool((weight < 0).any()) for weight in weights):
        for weight in weights:
            weight.abs_()
        return  # look again: other logits now
    if not bool((outside.x > 0).any()):
        raise ValueError(f"{say(outside.path)}: its gate's logits are not positive even with positive weights")
    # geometric bisection over twelve decades: the rate grows with the scale, in jumps where there are few logits
    low, high, best = -20.0, 20.0, (float("inf"), 1.0)
    for _ in range(40):
        middle = (low + high) / 2
        rate = _rate(neuron, outside.x * 2.0**middle)
        target = sum(BAND) / 2
        if BAND[0] <= rate <= BAND[1]:
            best = min(best, (abs(rate - target), 2.0**middle))
        low, high = (middle, high) if rate < target else (low, middle)
    weights[-1].mul_(best[1] if best[0] < float("inf") else 2.0**high)


def _rate(neuron: nn.Module, x: Tensor) -> float:
    y = _first(neuron.forward(x))
    return int(y.count_nonzero()) / max(y.numel(), 1)
