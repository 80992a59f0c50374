"""The constants of dehazing, and the presets that name sets of them."""

from __future__ import annotations

import dataclasses
import numbers
from dataclasses import dataclass
from typing import Any, Literal

from saccade.dehaze.windows import check_window


def _number(name: str, value: Any) -> float:
    """A number as it is; of YAML's words those that are one, such as 1e-3. Raises ValueError for anything else."""
    try:
        if isinstance(value, bool) or not isinstance(value, (str, numbers.Real)):
            raise ValueError
        return float(value)
    except ValueError:
        raise ValueError(f"{name}: a number, not {value!r}") from None


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name}: a whole number{' or auto' if name == 'window' else ''}, not {value!r}")
    return int(value)


@dataclass(frozen=True)
class Settings:
    """Everything that decides how a picture is dehazed. Windows and radii in pixels.

    ``airlight_window``, ``airlight_fraction``: minimum filter and share of pixels of the airlight. ``window``: of the depth
    order; "auto" is 35 at 0.5 megapixels and grows with the picture's side. ``eps``: share of pixels that may leave the
    colour cube [``low``, ``high``]. ``radius``, ``guide_eps``: guided filter. ``subsample``: its lines are fitted on every so
    many pixels. ``least``: floor of the transmission. ``clahe``: "matlab", "opencv" or "none"; ``clip``: its limit, in the
    unit of the one chosen.
    """

    airlight_window: int = 15
    airlight_fraction: float = 1e-3
    window: int | Literal["auto"] = 35
    eps: float = 0.02
    low: float = 0.0
    high: float = 1.0
    radius: int = 35
    guide_eps: float = 0.002
    subsample: int = 1
    least: float = 0.05
    clahe: Literal["matlab", "opencv", "none"] = "none"
    clip: float = 0.002

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type == "float":
                object.__setattr__(self, field.name, _number(field.name, value))
            elif field.type == "int" or (field.name == "window" and value != "auto"):
                object.__setattr__(self, field.name, _whole(field.name, value))
        check_window(self.airlight_window)
        if self.window != "auto":
            check_window(self.window)
        unit = {"airlight_fraction": self.airlight_fraction, "eps": self.eps, "least": self.least}
        for name, value in unit.items():
            if not 0 < value < 1:
                raise ValueError(f"{name}: a share between 0 and 1, not {value:g}")
        if self.radius < 1 or self.subsample < 1 or not self.guide_eps > 0 or not self.clip >= 0:
            raise ValueError(
                "radius and subsample are 1 or more, guide_eps above 0, clip 0 or more, "
                f"not {self.radius}, {self.subsample}, {self.guide_eps:g}, {self.clip:g}"
            )
        if self.clahe not in ("matlab", "opencv", "none"):
            raise ValueError(f"clahe: matlab, opencv or none, not {self.clahe!r}")
        if self.clip > 1 if self.clahe == "matlab" else self.clip == float("inf"):
            raise ValueError(f"clip: 0 to 1 for clahe 'matlab', finite for others, not {self.clip:g}")
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must lie below high ({self.high:g})")

    def window_for(self, height: int, width: int) -> int:
        """Side of the depth order's window on a picture of this size, odd."""
        if self.window != "auto":
            return self.window
        return max(3, round(35 * (height * width / 5e5) ** 0.5) // 2 * 2 + 1)


PRESETS: dict[str, Settings] = {
    # dehaze_sdo.m, the authors' function
    "paper": Settings(clahe="matlab"),
    # Main_demo.mlx, the authors' live script
    "demo": Settings(airlight_window=55, guide_eps=0.02, clahe="matlab"),
    # the method without the contrast step that no reference picture has
    "fidelity": Settings(),
    # ours: only black binds Theta. A few pixels brighter than the airlight (lamps, lit cloud) would otherwise hold back the
    # whole picture, and what is brighter than the veil may well clip
    "clear": Settings(high=float("inf")),
    "fast": Settings(subsample=2),
    "video": Settings(),
}


def settings_for(preset: str | Settings, /, **changes: Any) -> Settings:
    """A preset by name, with changes. Raises ValueError for an unknown name or key, or an impossible value."""
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise ValueError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
        preset = PRESETS[preset]
    known = {field.name for field in dataclasses.fields(Settings)}
    for name in changes:
        if name not in known:
            raise ValueError(f"unknown setting {name!r}; known: {', '.join(sorted(known))}")
    return dataclasses.replace(preset, **changes)
