"""Counting rules of what copies, fills and rearranges: free, but for choosing between values."""

from __future__ import annotations

from torch import Tensor

from saccade.graph.alphabet import Alphabet
from saccade.graph.call import Call
from saccade.graph.rules.registry import counts


def _joined(*alphabets: Alphabet | None) -> Alphabet | None:
    """The alphabet of what holds values of each; None if one is analog."""
    result = alphabets[0]
    for alphabet in alphabets[1:]:
        result = result.join(alphabet) if result and alphabet else None
    return result


def _of(call: Call, x: Tensor | float) -> Alphabet | None:
    """The alphabet of a tensor or a number."""
    value = call.number(x) if not isinstance(x, Tensor) or call.alphabet(x) is None else None
    if value is not None:
        return Alphabet.constant(value)
    return call.alphabet(x) if isinstance(x, Tensor) else None


@counts(
    *"clone _to_copy copy cat stack repeat index index_select gather roll flip where masked_fill".split(),
    *"constant_pad_nd im2col upsample_nearest2d pixel_shuffle pixel_unshuffle reflection_pad2d".split(),
    *"replication_pad2d tril triu embedding channel_shuffle native_channel_shuffle".split(),
    moves=True,
)
def move(call: Call) -> Alphabet | None:
    """Copies and rearrangements: the joined alphabet of what is moved (and of zero, where they pad). ``where`` and
    ``masked_fill`` choose: a selection an element."""
    if call.name == "copy":
        moved = [call.args[1]]
    elif call.name in ("cat", "stack"):
        moved = list(call.args[0])
    elif call.name == "where":
        moved = [x if isinstance(x, Tensor) else None for x in call.args[1:3]]
    else:
        moved = [call.args[0]]
    alphabets = [call.alphabet(x) if x is not None else None for x in moved]
    if call.name in ("constant_pad_nd", "masked_fill"):
        value = call.number(call.arg(2, "value", 0))
        alphabets.append(None if value is None else Alphabet.constant(value))
    if call.name in ("im2col", "tril", "triu"):
        alphabets.append(Alphabet.constant(0))
    if call.name in ("where", "masked_fill"):
        call.count(ands=call.out.numel())
    return _joined(*alphabets)


@counts("masked_scatter", moves=True)
def masked_scatter(call: Call) -> Alphabet | None:
    """Chooses as ``where`` does: a selection an element."""
    call.count(ands=call.out.numel())
    return _joined(call.alphabet(call.args[0]), call.alphabet(call.args[2]))


@counts("index_put", "_unsafe_index_put", on_constants=True)
def index_put(call: Call) -> Alphabet | None:
    """Writes values at places: free; with ``accumulate`` an addition for each value (for each that is not zero, of spikes)."""
    values = call.args[2]
    own, put = call.alphabet(call.args[0]), call.alphabet(values)
    if not call.arg(3, "accumulate", False):
        return _joined(own, _of(call, values))
    places = _places(call)
    _count_added(call, values, places)
    most = put.join(Alphabet.constant(0)) if put else None  # all of them may fall on one place
    total = most.summed(places) if most else None
    return own.plus(total) if own and total else None


def _places(call: Call) -> int:
    """How many values ``index_put`` writes."""
    x: Tensor = call.args[0]
    return x[tuple(slice(None) if index is None else index for index in call.args[1])].numel()


def _count_added(call: Call, values: Tensor, number: int) -> None:
    if call.alphabet(values) is None:
        call.count(adds=number)
    else:
        call.count(adds=int(call.steps(values).count_nonzero()) * (number // max(values.numel(), 1)))


@counts("scatter", "index_copy", "index_fill", on_constants=True)
def scatter(call: Call) -> Alphabet | None:
    """Writes a source at places: free; with ``reduce`` an addition or multiplication for each element of the index."""
    source = call.arg(3, "src", call.kwargs.get("source", call.kwargs.get("value")))
    reduce = call.arg(4, "reduce")
    if reduce is None:
        return _joined(call.alphabet(call.args[0]), _of(call, source))
    number = call.args[2].numel()
    call.count(**{"adds" if reduce == "add" else "mults": number})
    return None


@counts("scatter_add", "index_add", on_constants=True)
def scatter_add(call: Call) -> Alphabet | None:
    """An addition for each element of the source (for each that is not zero, of spikes)."""
    dim, index, source = call.args[1], call.args[2], call.args[3]
    scaled = call.name == "index_add" and call.arg(4, "alpha", 1) != 1
    if call.name == "scatter_add" and source.shape != index.shape:  # only what the index names is added
        source = source[tuple(slice(size) for size in index.shape)]
    _count_added(call, source, source.numel())
    own, added = call.alphabet(call.args[0]), call.alphabet(source)
    if own is None or added is None or scaled:
        return None
    most = added.join(Alphabet.constant(0))
    total = most.summed(source.shape[dim] if source.dim() else 1) if most else None
    return own.plus(total) if total else None


@counts(
    *"zeros ones full empty zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty".split(),
    *"empty_strided new_empty_strided scalar_tensor fill zero".split(),
    on_constants=True,
)
def fill(call: Call) -> Alphabet | None:
    if call.name.startswith(("zero", "new_zeros", "empty", "new_empty")):
        return Alphabet.constant(0)  # an empty buffer is about to be written; what is not is caught by the checks
    if call.name.startswith(("ones", "new_ones")):
        return Alphabet.constant(1)
    index = 0 if call.name == "scalar_tensor" else 2 if call.name == "new_full" else 1
    value = call.number(call.arg(index, "fill_value", call.kwargs.get("value")))
    return None if value is None else Alphabet.constant(value)
