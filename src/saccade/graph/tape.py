"""What is known of each tensor during a run: its spike alphabet, and whether it depends on the input.

Knowledge is kept per storage, so that every view (reshape, slice, permute, expand, ...) shares it without a rule, and
writing through a view reaches the whole. A storage never heard of is a constant (parameter, buffer): work on constants
alone is free, since it is done once, before the first input.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from saccade.graph.alphabet import Alphabet
from saccade.graph.formula import Formula


@dataclass(frozen=True)
class Known:
    """Alphabet (None: analog), dependence on the input, the tensor version whose values have been checked, and how the
    values came about, where that is known and short."""

    alphabet: Alphabet | None = None
    live: bool = False
    checked: int = -1
    formula: Formula | None = None


CONSTANT = Known()


class Tape:
    """Maps storages to what is known of them. A weak reference pins each address, so that none is mistaken.

    narrow: alphabets shrink to the values that occurred where these are looked at (for counting one run); otherwise they
    hold for every run.
    """

    def __init__(self, narrow: bool = True) -> None:
        self.narrow = narrow
        self._known: dict[int, tuple[StorageWeakRef, Known]] = {}

    def __getitem__(self, x: Tensor) -> Known:
        found = self._known.get(x.untyped_storage()._cdata)
        return CONSTANT if found is None else found[1]

    def __setitem__(self, x: Tensor, known: Known) -> None:
        if len(self._known) >= 4096:  # a long recurrent run: let the addresses of dead storages go
            self._known = {key: held for key, held in self._known.items() if not held[0].expired()}
        storage = x.untyped_storage()
        self._known[storage._cdata] = (StorageWeakRef(storage), known)

    def write(self, x: Tensor, known: Known) -> None:
        """Records that `x`, perhaps a part of its storage, was overwritten: partial writes join the alphabets."""
        if x.numel() * x.element_size() < x.untyped_storage().nbytes():
            old = self[x]
            both = known.alphabet and old.alphabet
            joined = old.alphabet.join(known.alphabet) if both and old.alphabet and known.alphabet else None
            known = replace(known, alphabet=joined, live=known.live or old.live)
        self[x] = replace(known, checked=-1)
