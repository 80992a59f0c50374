"""How continuous neurons of NIR become steps. Files do not say it, so it has to be said.

NIR (Pedersen et al., 2024) writes ``tau dv/dt = v_leak - v + R I``, a spike where ``v > v_threshold``, then ``v = v_reset``.

"euler": ``v <- v + (dt / tau) (v_leak - v + R I)``, reset to ``v_reset``: the equations, forward in steps of dt. snnTorch reads
and writes this with dt = 1e-4. An IF neuron adds ``R I`` a step, whatever dt is.

"sinabs": ``v <- exp(-1 / tau) v + I``, a spike where ``v >= v_threshold``, which is then subtracted; tau counts steps, R and
v_reset are not used. Its neurons can fire several spikes a step; ours, one.
"""

from __future__ import annotations

import math

CONVENTIONS = ("euler", "sinabs")
DT = 1e-4  # seconds a step, where nothing says otherwise
MOST_STEPS = 1e4  # a time constant of more steps was likely written by another convention


def check(convention: str, dt: float) -> None:
    """Raises ValueError for an unknown convention or a dt that is no time."""
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}, got {convention!r}")
    if not 0 < dt < math.inf:
        raise ValueError(f"dt must be above 0 seconds, got {dt}")


def decay_of(tau: float, convention: str, dt: float) -> float:
    """What a potential is multiplied by in a step; numbers that float32 has blurred are brought back to six digits.

    Raises ValueError for a time constant that does not fit the convention.
    """
    if not tau > 0:
        raise ValueError(f"a time constant of {tau:.3g} is not above 0")
    decay = math.exp(-1 / tau) if convention == "sinabs" else 1 - dt / tau
    if convention == "euler" and tau / dt > MOST_STEPS:
        raise ValueError(
            f"a time constant of {tau:.3g} s is {tau / dt:,.0f} steps of {dt:.3g} s: name another dt, or the convention "
            "sinabs, whose time constants count steps"
        )
    if decay < -1e-6:
        raise ValueError(f"a time constant of {tau:.3g} s is shorter than a step of {dt:.3g} s: name a smaller dt")
    rounded = round(decay, 6)
    return max(rounded if abs(decay - rounded) < 2e-7 else decay, 0.0)


def tau_of(decay: float, convention: str, dt: float) -> float:
    """The time constant that gives a decay."""
    if convention == "sinabs":
        return -1 / math.log(decay) if decay else 0.0
    return dt / (1 - decay)
