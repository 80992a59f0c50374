"""Before and after on one page: pictures under a slider, with what was found in each."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

from saccade.report.pages import render
from saccade.report.run_files import write_text

SHOWN = 24
SIDE = 960  # pixels of the longer side on the page
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # by content; none of their readers starts a program


def write_comparison(directory: str | Path) -> Path:
    """Write ``report.html`` into a folder from its ``dehaze.json`` and the pictures that names; returns its path.

    Raises ValueError if the folder holds no such file. A picture that is gone is left out with a word.
    """
    folder = Path(directory)
    source = folder / "dehaze.json"
    try:
        record = json.loads(source.read_text(encoding="utf-8"))
        rows: list[dict[str, Any]] = record["pictures"]
    except FileNotFoundError:
        raise ValueError(f"{folder}: holds no dehazed pictures (no dehaze.json)") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{source}: not what saccade writes ({error})") from None
    done = [row for row in rows if "output" in row]
    try:
        page = render(
            "comparison.html",
            title="Dehazed",
            heading=record["title"],
            method=record["method"],
            done=len(done),
            failed=[row["error"] for row in rows if "error" in row],
            figures=[_figure(row, folder) for row in done[:SHOWN]],
        )
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise ValueError(f"{source}: not what saccade writes ({type(error).__name__}: {error})") from None
    target = folder / "report.html"
    write_text(target, page + "\n")
    return target


def _figure(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Name, both pictures (None where one is gone) and what is known of them."""
    output = folder / row["output"]
    before, after = _inline(Path(row["input"])), _inline(output if output.exists() else Path(row["output"]))
    if before is None or after is None:
        return {"name": Path(row["input"]).name, "before": None}
    facts = f"{row['size'][0]} x {row['size'][1]}, dehazed in {row['cpu_seconds'] * 1e3:.0f} ms of CPU time"
    if "theta" in row:
        A = ", ".join(f"{a:.3f}" for a in row["airlight"])
        facts += f"; airlight {A}; theta {row['theta']:.3f}{' (clamped)' if row['clamped'] else ''}"
        facts += f"; {row['outside']:.1%} of the pixels clipped"
    return {"name": Path(row["input"]).name, "before": before, "after": after, "facts": facts}


def _inline(path: Path) -> str | None:
    """The picture as a JPEG inside the page, at most SIDE pixels wide or high; None if it cannot be read."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=FORMATS) as file:
            file.filename = ""  # else Pillow maps a grey TIFF into memory with its sides exchanged
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I"):
                image = image.point(lambda v: v / 257).convert("L")
            # a profile of RGB colours stays with them; the pixels of others are converted without it
            profile = image.info.get("icc_profile") or b""
            profile = profile if profile[16:20] == b"RGB " else None
            image = image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    image.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    image.save(out, format="JPEG", quality=88, icc_profile=profile)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
