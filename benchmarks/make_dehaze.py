"""Fill the tables of docs/dehaze.md from results/dehaze, and draw its picture: python benchmarks/make_dehaze.py

The tables stand between <!-- NAME --> and <!-- /NAME -->; the text around them is written by hand.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from saccade.dehaze import Dehazer, dcp
from saccade.dehaze.synthesis import stereo_scene, synth_haze
from saccade.report import write_text

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "dehaze.md"
PAIRED = {
    "sots_outdoor": "SOTS outdoor",
    "sots_indoor": "SOTS indoor, scene 1400",
    "o_haze": "O-HAZE at 0.35 of its side",
}


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def stored(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "results" / "dehaze" / f"{name}.json").read_text())
    return found


def source(found: dict[str, Any]) -> str:
    return f"\n\n`{found['command']}`, commit {found['commit'][:9]}, {found['date']}."


def of(rows: list[dict[str, Any]], method: str, measure: str) -> list[float]:
    return [row[measure] for row in rows if row["method"] == method]


def methods(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in rows))


def means(quality: dict[str, Any]) -> str:
    sets = {name: quality["sets"][name]["rows"] for name in PAIRED}
    rows = []
    for method in methods(sets["sots_outdoor"]):
        cells = [method]
        for found in sets.values():
            psnr, ssim, colour = (mean(of(found, method, m)) for m in ("psnr", "ssim", "ciede2000"))
            cells.append(f"{psnr:.2f} / {ssim:.3f} / {colour:.1f}")
        rows.append(cells)
    head = ["method", *(f"{words} ({len(of(sets[name], 'hazy', 'psnr'))})" for name, words in PAIRED.items())]
    return table(head, rows) + source(quality)


def pictures(quality: dict[str, Any]) -> str:
    rows = []
    for name in PAIRED:
        found = quality["sets"][name]["rows"]
        for picture in dict.fromkeys(row["picture"] for row in found):
            own = {row["method"]: row for row in found if row["picture"] == picture}
            cells = [f"{own[m]['psnr']:.2f} / {own[m]['ssim']:.3f}" for m in own]
            rows.append([picture.rsplit(".", 1)[0], *cells])
    return table(["picture", *methods(quality["sets"]["sots_outdoor"]["rows"])], rows) + source(quality)


def order(quality: dict[str, Any]) -> str:
    rows = []
    every = [row for part in quality["sets"].values() for row in part["rows"]]
    parts = quality["sets"].items()
    key = {
        (name, row["picture"]): row["order"] for name, part in parts for row in part["rows"] if row["method"] == "dcp"
    }
    for method in ("fidelity", "clear", "paper", "dcp", "cap", "clahe"):
        found = of(every, method, "order")
        pairs = [
            (row["order"], key[name, row["picture"]])
            for name, part in quality["sets"].items()
            for row in part["rows"]
            if row["method"] == method
        ]
        above = "" if method == "dcp" else f"{mean(a > b for a, b in pairs):.1%}"
        rows.append([method, str(len(found)), f"{mean(found):.4f}", f"{min(found):.3f}", above])
    free = quality["order_before_clipping"]
    words = f"\n\nBefore rounding and clipping to [0, 1], {free['preset']} has a mean of {free['mean']:.4f}."
    return table(["method", "pictures", "mean", "least", "above DCP on"], rows) + words + source(quality)


def blind(quality: dict[str, Any]) -> str:
    found = quality["sets"]["real"]["rows"]
    hazy = of(found, "hazy", "fade")
    rows = []
    for method in methods(found):
        fades = of(found, method, "fade")
        lower = "" if method == "hazy" else f"{sum(a < b for a, b in zip(fades, hazy, strict=True))} of {len(hazy)}"
        edges = sorted(of(found, method, "new_edges"))[len(hazy) // 2]
        ratio, black = mean(of(found, method, "gradient_ratio")), mean(of(found, method, "saturated"))
        rows.append([method, f"{mean(fades):.3f}", lower, f"{edges:.2f}", f"{ratio:.2f}", f"{black:.2%}"])
    return table(["method", "FADE, mean", "FADE falls on", "e, median", "r, mean", "sigma, mean"], rows) + source(
        quality
    )


def speed(found: dict[str, Any]) -> str:
    rows = []
    for row in found["rows"]:
        ratios = [f"{row[key]:.1f}" if key in row else "" for key in ("dcp_over_this", "image_dehazer_over_this")]
        spread = f"{row['ms_per_megapixel']:.1f} ({row['least']:.1f} to {row['most']:.1f})"
        rows.append([f"{row['size'][0]} x {row['size'][1]}", row["contender"], spread, *ratios])
    head = ["size", "contender", "CPU ms a megapixel, one thread", "DCP takes times", "image_dehazer takes times"]
    words = f"\n\nPasses at 1920 x 1080, buffers warm, ms a megapixel: {json.dumps(found['passes_ms_per_megapixel'])[1:-1]}."
    memory = found["memory"]
    words += (
        f" Memory beyond input and output, measured with CLAHE: {memory['planes_beyond_output']:.1f} float32 planes"
    )
    words += f" (its buffers are {memory['planes_of_buffers']:.1f}). {found['machine']['cpu']}, load {found['load']}."
    return table(head, rows) + words.replace('"', "") + source(found)


def video(found: dict[str, Any]) -> str:
    rows = []
    for row in found["video"]:
        options = ", ".join(f"{k} {v}" for k, v in row["options"].items()) or "as shipped"
        rate = f"{row['frames_per_second']:.0f} ({row['least']:.0f} to {row['most']:.0f})"
        rows.append([f"{row['size'][0]} x {row['size'][1]}", str(row["threads"]), options, row["clock"], rate])
    return table(["frame", "threads", "settings", "time", "frames a second"], rows) + source(found)


def flicker(found: dict[str, Any]) -> str:
    rows = []
    for row in found["rows"]:
        step = f"{row['step']:.2f} ({row['input_step']:.2f})"
        rows.append([row["clip"], row["settings"], f"{row['flicker_ratio']:.2f}", step])
    return table(
        ["clip", "parameters", "flicker over input's", "mean step of a frame (input's), levels"], rows
    ) + source(found)


def classifier(found: dict[str, Any]) -> str:
    betas = list(dict.fromkeys(row["beta"] for row in found["rows"]))
    names = {"null": "nothing"}
    rows: dict[str, list[str]] = {}
    for row in found["rows"]:
        config = row["dehaze"]
        name = (
            names["null"]
            if config is None
            else config.get("method") or f"{config['preset']}, window {config['window']}"
        )
        rows.setdefault(name, []).append(f"{row['test_accuracy']:.2%}")
    head = ["in front of the classifier", *("clear" if beta is None else f"haze, beta {beta:g}" for beta in betas)]
    return table(head, [[name, *cells] for name, cells in rows.items()]) + source(found)


def draw() -> None:
    """The bundled stereo picture: haze, ours without and with contrast, DCP."""
    from PIL import Image, ImageDraw

    clear, depth = stereo_scene()
    hazy = np.floor(synth_haze(clear, depth, 0.6, (0.85, 0.88, 0.90)) * 255 + 0.5).astype(np.uint8)
    shown = {
        "hazy (beta 0.6)": hazy,
        "clear": np.floor(clear * 255 + 0.5).astype(np.uint8),
        "ours, fidelity": Dehazer("fidelity")(hazy),
        "ours, paper (with CLAHE)": Dehazer("paper")(hazy),
        "depth order of the haze": order_map(hazy),
        "DCP": np.floor(dcp(hazy / 255.0) * 255 + 0.5).astype(np.uint8),
    }
    sheet = Image.new("RGB", (2 * 500, 3 * 338), "white")
    for i, (name, pixels) in enumerate(shown.items()):
        tile = Image.fromarray(pixels).resize((496, 334), Image.Resampling.LANCZOS)
        ImageDraw.Draw(tile).text((8, 6), name, fill="white", stroke_width=2, stroke_fill="black")
        sheet.paste(tile, (500 * (i % 2) + 2, 338 * (i // 2) + 2))
    sheet.save(ROOT / "docs" / "images" / "dehaze-stereo.jpg", quality=85)


def order_map(hazy: np.ndarray) -> np.ndarray:
    _, parts = Dehazer("fidelity")(hazy, return_parts=True)
    grey = np.floor(parts.order / parts.nearest * 255 + 0.5).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def main() -> None:
    quality, fast, seen = stored("quality"), stored("speed"), stored("classifier")
    tables = {"means": means(quality), "pictures": pictures(quality), "order": order(quality), "blind": blind(quality)}
    tables |= {"speed": speed(fast), "video": video(fast), "flicker": flicker(stored("flicker"))}
    tables["classifier"] = classifier(seen)
    text = PAGE.read_text()
    for name, found in tables.items():
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S)
        text, count = pattern.subn(lambda m, found=found: f"{m[1]}{found}\n{m[2]}", text)
        assert count == 1, name
    write_text(PAGE, text)
    draw()


if __name__ == "__main__":
    main()
