"""Before and after on one page: pictures under a slider, with what was found in each."""

from __future__ import annotations

import base64
import html
import io
import json
import os
from pathlib import Path
from typing import Any

from saccade.report.html import STYLE
from saccade.report.run_files import write_text

SHOWN = 24
SIDE = 960  # pixels of the longer side on the page
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # by content; none of their readers starts a program

_STYLE = """
.pair{position:relative;overflow:hidden;border-radius:6px;line-height:0;background:#000}
.pair img{width:100%;display:block} .pair .after{position:absolute;inset:0;clip-path:inset(0 0 0 var(--at,50%))}
.pair .line{position:absolute;top:0;bottom:0;left:var(--at,50%);width:2px;margin-left:-1px;
background:#fff;box-shadow:0 0 4px #000}
.pair input{position:absolute;inset:0;width:100%;height:100%;margin:0;opacity:0;cursor:ew-resize}
.pair input:focus-visible~.line{background:#ea7317}
.pair span{position:absolute;top:8px;font:12px/1 system-ui;color:#fff;background:#0008;padding:5px 8px;border-radius:4px}
.pair .l1{left:8px}.pair .l2{right:8px}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(430px,100%),1fr));gap:18px} figure{margin:0;min-width:0}
figcaption{font-size:13px;color:#616e7c;margin-top:6px} h1,figcaption,li{overflow-wrap:anywhere} ul{padding-left:22px}
.pair input{touch-action:pan-y} :root{color-scheme:light dark}
@media (prefers-color-scheme:dark){body{color:#e4e7eb;background:#12181f}
.muted,figcaption{color:#9aa5b1}.bad{color:#ff8787}}
"""
_MOVE = "this.parentNode.style.setProperty('--at',this.value+'%')"


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
    failed = [row for row in rows if "error" in row]
    head = f"<h1>Dehazed: {_safe(record['title'])}</h1>"
    words = f"{len(done):,} pictures, {html.escape(record['method'])}"
    if len(done) > SHOWN:
        words += f"; the first {SHOWN} are shown"
    head += f'<p class="muted">{words}. Move the line: hazy on the left, dehazed on the right.</p>'
    if failed:
        lines = "".join(f"<li>{_safe(row['error'])}</li>" for row in failed[:100])
        head += (
            f'<details open><summary class="bad">{len(failed):,} could not be done</summary><ul>{lines}</ul></details>'
        )
    body = head + '<div class="grid">' + "".join(_figure(row, folder) for row in done[:SHOWN]) + "</div>"
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Dehazed</title>'
    style = f"<style>{STYLE}{_STYLE}</style>"
    page = f'<!doctype html><html lang="en"><head>{meta}{style}</head><body><main>{body}</main></body></html>'
    target = folder / "report.html"
    write_text(target, page + "\n")
    return target


def _safe(text: str) -> str:
    """Text for HTML; bytes of a file's name that are not UTF-8 as question marks."""
    return html.escape(os.fsencode(text).decode("utf-8", "replace"))


def _figure(row: dict[str, Any], folder: Path) -> str:
    name = _safe(Path(row["input"]).name)
    output = folder / row["output"]
    before, after = _inline(Path(row["input"])), _inline(output if output.exists() else Path(row["output"]))
    if before is None or after is None:
        return f"<figure><figcaption>{name}: the picture is not there any more</figcaption></figure>"
    facts = f"{row['size'][0]} x {row['size'][1]}, dehazed in {row['cpu_seconds'] * 1e3:.0f} ms of CPU time"
    if "theta" in row:
        A = ", ".join(f"{a:.3f}" for a in row["airlight"])
        facts += f"; airlight {A}; theta {row['theta']:.3f}{' (clamped)' if row['clamped'] else ''}"
        facts += f"; {row['outside']:.1%} of the pixels clipped"
    pair = (
        f'<div class="pair"><img alt="{name}, hazy" src="{before}"><img class="after" alt="{name}, dehazed" src="{after}">'
        f'<input type="range" min="0" max="100" value="50" aria-label="before and after" oninput="{_MOVE}">'
        '<div class="line"></div><span class="l1">hazy</span><span class="l2">dehazed</span></div>'
    )
    return f"<figure>{pair}<figcaption><b>{name}</b>: {facts}</figcaption></figure>"


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
