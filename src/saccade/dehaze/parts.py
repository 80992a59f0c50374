"""What dehazing finds on the way: the record that every engine returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Parts:
    """What the method found on the way; of a torch batch, everything has a first axis N and is a tensor.

    ``airlight`` [3]; ``order`` and ``transmission`` [H, W]; the order's extremes ``farthest`` and ``nearest``; ``theta``;
    ``clamped``: theta had to be raised to ``nearest``, so that more than eps of the pixels are ``below_bound`` (the share of
    pixels whose t0 is below the bound of the colour cube); ``outside``: the share that left [0, 1] before clipping.
    """

    airlight: Any
    order: Any
    transmission: Any
    farthest: Any
    nearest: Any
    theta: Any
    clamped: Any
    below_bound: Any
    outside: Any

    def scalars(self) -> dict[str, Any]:
        """The numbers, without the maps, for JSON; of a batch lists of them."""
        names = ("airlight", "farthest", "nearest", "theta", "clamped", "below_bound", "outside")
        values = {name: getattr(self, name) for name in names}
        return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in values.items()}
