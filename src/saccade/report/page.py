"""Putting a run directory on one page."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import numpy as np

from saccade.report import figures
from saccade.train.rundir import RunDirectory, write_text

STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;color:#1f2933;background:#f5f7fa;margin:0}
main{max-width:1080px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:24px;margin:0 0 2px} h2{font-size:18px;margin:36px 0 10px} p{margin:6px 0} .muted{color:#616e7c}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px;margin:18px 0}
.card{background:#fff;border:1px solid #e4e7eb;border-radius:8px;padding:12px 14px}
.card b{display:block;font-size:22px;font-variant-numeric:tabular-nums} .card span{color:#616e7c;font-size:13px}
.panel{background:#fff;border:1px solid #e4e7eb;border-radius:8px;padding:14px 16px;overflow-x:auto}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(430px,1fr));gap:14px}
svg{max-width:100%;height:auto} svg text{font-family:inherit}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:4px 8px;text-align:right;border-bottom:1px solid #e4e7eb;white-space:nowrap}
th:first-child,td:first-child,.l{text-align:left!important} th{color:#616e7c;font-weight:600}
.bad{color:#c92a2a}.good{color:#0f7b5f} details{margin-top:14px} pre{font-size:12px;overflow-x:auto}
.sample{display:grid;grid-template-columns:150px 1fr;gap:16px;padding:12px 0;border-bottom:1px solid #e4e7eb}
.sample img{image-rendering:pixelated;border-radius:4px}
.rasters{display:flex;flex-wrap:wrap;gap:14px} .rasters figure{margin:0}
.rasters figcaption{font-size:11px;color:#616e7c} .rasters svg{border-left:1px solid #cbd2d9;max-width:none}
"""


def write_report(directory: str | Path) -> Path:
    """Write ``report.html`` into a run directory from the files in it, and return its path.

    Needs ``summary.json`` and ``metrics.csv``; ``profile.json``, ``pruning.json``, ``compression.json`` and ``samples.npz`` add
    their sections.
    Raises ValueError if the directory holds no finished run, or if one of its files cannot be read.
    """
    run = RunDirectory(Path(directory))
    summary, rows = run.read_json("summary.json"), run.metrics()
    sections = [_head(summary), _cards(summary), _learning(summary, rows), _confusion(summary)]
    if (run.path / "profile.json").exists():
        sections.append(_profile(run.read_json("profile.json")))
    sections.append(_rates(rows))
    if (run.path / "pruning.json").exists():
        sections.append(_pruning(run.read_json("pruning.json")))
    if (run.path / "compression.json").exists():
        sections.append(_compression(run.read_json("compression.json")))
    sections += [_samples(run.path, summary), _details(run.path)]
    title = f"{_text(summary['recipe'])}, seed {summary['seed']}"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    body = "\n".join(part for part in sections if part)
    page = f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}</style></head><body><main>{body}</main></body></html>'
    target = run.path / "report.html"
    write_text(target, page + "\n")
    return target


def _text(value: object) -> str:
    return html.escape(str(value))


def _head(summary: dict[str, Any]) -> str:
    images = summary["images"]
    split = f"{images['train']:,} training, {images['validation']:,} validation, {images['test']:,} test images"
    line = (
        f"{summary['model']}, T = {summary['T']}, {summary['parameters']:,} parameters; {split}; seed {summary['seed']}"
    )
    return f'<h1>{_text(summary["recipe"])}</h1><p class="muted">{_text(line)}</p>'


def _cards(summary: dict[str, Any]) -> str:
    correct = f"{summary['test_correct']:,} of {summary['test_total']:,} test images, scored once"
    epoch = f"validation, epoch {summary['chosen_epoch']} of {summary['epochs']} ({summary['chosen_by']})"
    validation = summary["validation_accuracy"]
    cards = [(f"{summary['test_accuracy']:.2%}", correct), ("–" if validation is None else f"{validation:.2%}", epoch)]
    cost = summary.get("profile")
    if cost:
        cards += [
            (f"{cost['spikes_per_neuron']:.3f}", "spikes per neuron and image, over all steps"),
            (f"{cost['spikes_per_image']:,.0f}", "spikes per image"),
            (_energy(cost["energy_standard_uj"]), "per image, convention “standard”"),
            (_energy(cost["energy_orrc_uj"]), "per image, convention “orrc”"),
        ]
    seconds = summary["training_seconds"]
    cards.append((f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.0f} s", "training time"))
    inner = "".join(f'<div class="card"><b>{_text(v)}</b><span>{_text(k)}</span></div>' for v, k in cards)
    return f'<div class="cards">{inner}</div>'


def _energy(microjoules: float) -> str:
    return f"{microjoules / 1000:.3g} mJ" if microjoules >= 1000 else f"{microjoules:.3g} µJ"


def _learning(summary: dict[str, Any], rows: list[dict[str, float | None]]) -> str:
    chosen = summary["chosen_epoch"]
    loss = figures.curves(rows, {"train_loss": "training", "validation_loss": "validation"}, "loss", chosen)
    keys = {"train_accuracy": "training (augmented)", "validation_accuracy": "validation"}
    accuracy = figures.curves(rows, keys, "accuracy, %", chosen, percent=True)
    return f'<h2>Learning</h2><div class="row"><div class="panel">{loss}</div><div class="panel">{accuracy}</div></div>'


def _confusion(summary: dict[str, Any]) -> str:
    figure = figures.confusion(summary["confusion"], summary["classes"])
    return f'<h2>Confusion on the test set</h2><div class="panel">{figure}</div>'


def _profile(profile: dict[str, Any]) -> str:
    layers, samples = profile["layers"], profile["samples"]
    fires = [row for row in layers if row["neurons"]]
    spends = [row for row in layers if row["energy_pj"] > 0]
    spikes = figures.bars(
        [row["name"] for row in fires],
        {"spikes": [row["spikes_per_neuron"] for row in fires]},
        "spikes per neuron and image, over all steps",
    )
    most = sorted(spends, key=lambda row: -row["energy_pj"])[: max(len(fires), 12)]
    names = [row["name"] for row in spends if row in most]
    values = [row["energy_pj"] * 1e-3 for row in spends if row in most]
    if len(most) < len(spends):
        names.append(f"{len(spends) - len(most)} smaller ones")
        values.append(sum(row["energy_pj"] for row in spends if row not in most) * 1e-3)
    energy = figures.bars(
        names,
        {"energy": values},
        f"energy per image, nJ (convention “{profile['convention']['name']}”)",
    )
    columns = (("layer", "name"), ("kind", "kind"), ("role", "role"), ("input", "input"))
    head = "".join(f'<th class="l">{name}</th>' for name, _ in columns)
    head += "".join(
        f"<th>{name}</th>" for name in ("spikes", "rate", "SOPs", "MACs", "dense MACs", "energy, nJ", "state, B")
    )
    body = []
    for row in layers:
        if not (row["neurons"] or row["sops"] or row["macs"] or row["energy_pj"]):
            continue
        cells = "".join(f'<td class="l">{_text(row[key])}</td>' for _, key in columns)
        if row["silent"]:
            cells = cells.replace("</td>", ' <b class="bad">silent</b></td>', 1)
        numbers = [
            f"{row['spikes'] / samples:,.1f}" if row["neurons"] else "",
            f"{row['firing_rate']:.4f}" if row["neurons"] else "",
            *(f"{row[key] / samples:,.0f}" if row[key] else "" for key in ("sops", "macs", "dense_macs")),
            f"{row['energy_pj'] * 1e-3:,.2f}" if row["energy_pj"] else "",
            f"{row['state_bytes']:,}" if row["state_bytes"] else "",
        ]
        body.append(f"<tr>{cells}{''.join(f'<td>{n}</td>' for n in numbers)}</tr>")
    note = (
        f"Means per image over {samples} test images. Spikes are counted exactly; synaptic operations (SOPs) are additions "
        "of a weight for a spike, exact at borders and strides; MACs are multiply-accumulates of analog inputs."
    )
    table = f'<div class="panel"><table><tr>{head}</tr>{"".join(body)}</table></div>'
    charts = f'<div class="row"><div class="panel">{spikes}</div><div class="panel">{energy}</div></div>'
    details = f"<details><summary>All layers</summary>{table}</details>"
    return f'<h2>Spikes and energy</h2><p class="muted">{note}</p>{charts}{details}'


def _rates(rows: list[dict[str, float | None]]) -> str:
    keys = [key for key in (rows[0] if rows else {}) if key.startswith("rate/")]
    if not keys:
        return ""
    legends = {key: key.removeprefix("rate/").removesuffix(".neuron") for key in keys}
    note = "Firing probability per step on the validation images; epoch 0 is the untrained network."
    figure = figures.curves(rows, legends, "rate")
    return f'<h2>Shortcuts and gates</h2><p class="muted">{note}</p><div class="panel">{figure}</div>'


def _pruning(found: dict[str, Any]) -> str:
    head = '<tr><th>shortcut</th><th>spikes</th><th>rate</th><th>gate rate</th><th>verdict</th><th class="l">story</th></tr>'
    body = ""
    for row in found["shortcuts"]:
        gate = "" if row["gate_rate"] is None else f"{row['gate_rate']:.4f}"
        verdict = '<b class="good">removed</b>' if row["removed"] else "kept"
        numbers = f"<td>{row['spikes']:,}</td><td>{row['rate']:.5f}</td><td>{gate}</td>"
        body += (
            f'<tr><td>{_text(row["path"])}</td>{numbers}<td>{verdict}</td><td class="l">{_text(row["story"])}</td></tr>'
        )
    lines = []
    for key, where in (("measured", "training and validation data"), ("test", "test set")):
        result = found[key]
        if result:
            if result["equal"]:
                words = '<b class="good">identical bit for bit</b>'
            else:
                differs = f"{result['differing_samples']} images differ, by up to {result['largest_difference']:.3g}"
                words = f'<b class="bad">{differs}</b>'
            lines.append(f"<p>Logits before and after on the {where}: {words} ({result['samples']:,} images).</p>")
    count = found["parameters"]
    lines.append(f"<p>Parameters: {count['before']:,} before, {count['after']:,} after.</p>")
    return f'<h2>Natural pruning</h2><div class="panel"><table>{head}{body}</table>{"".join(lines)}</div>'


def _compression(found: dict[str, Any]) -> str:
    steps = found["steps"]
    points = [(step["bytes_file"], step["validation_accuracy"]) for step in steps]
    figure = figures.accuracy_over_bytes({"validation": points}, [step["step"] for step in steps])
    head = "<tr><th>step</th><th>parameters</th><th>counted, B</th><th>packed file, B</th><th>validation</th><th>test</th></tr>"
    body = ""
    for step in steps:
        test = f"{step['test_accuracy']:.2%}" if "test_accuracy" in step else ""
        cells = (f"{step['parameters']:,}", f"{step['bytes_qp']:,.0f}", f"{step['bytes_file']:,}")
        numbers = "".join(f"<td>{cell}</td>" for cell in (*cells, f"{step['validation_accuracy']:.2%}", test))
        body += f"<tr><td>{_text(step['step'])}</td>{numbers}</tr>"
    kept: dict[str, int] = next((step["kept"] for step in steps if "kept" in step), {})
    channels = ", ".join(f"{_text(name)} {count}" for name, count in kept.items())
    note = (
        "Counted: weights at the bits of their form, biases, norms and the rest at 32 (QP-SNN). Packed: the size of the file, "
        f"header included. Channels kept: {channels}. The last step is a run of its own, in finetune/."
    )
    table = f'<div class="panel"><table>{head}{body}</table></div>'
    return f'<h2>Compression</h2><p class="muted">{note}</p><div class="panel">{figure}</div>{table}'


def _samples(run: Path, summary: dict[str, Any]) -> str:
    path = run / "samples.npz"
    if not path.exists():
        return ""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable ({error})") from None
    classes = summary["classes"]
    layers = [key for key in arrays if key.startswith("raster/")]
    shown = layers if len(layers) <= 6 else [layers[i] for i in np.linspace(0, len(layers) - 1, 6).round().astype(int)]
    out = []
    for i, (pixels, label, logits) in enumerate(zip(arrays["images"], arrays["labels"], arrays["logits"], strict=True)):
        guess = int(np.argmax(logits))
        chance = np.exp(logits - logits.max())
        mark = "good" if guess == label else "bad"
        verdict = f"{_text(classes[guess])} {chance[guess] / chance.sum():.0%}"
        caption = f'{_text(classes[label])}<br><span class="{mark}">{verdict}</span>'
        plots = "".join(
            f"<figure>{figures.raster(arrays[key][i])}<figcaption>{_text(key.removeprefix('raster/'))}</figcaption></figure>"
            for key in shown
        )
        out.append(
            f'<div class="sample"><div>{figures.picture(pixels)}<p>{caption}</p></div>'
            f'<div class="rasters">{plots}</div></div>'
        )
    note = "Test images with truth and prediction, and the spikes of up to 64 evenly spaced neurons a layer; a column a step."
    return f'<h2>Samples and their spikes</h2><p class="muted">{note}</p><div class="panel">{"".join(out)}</div>'


def _details(run: Path) -> str:
    blocks = []
    for name in ("recipe.yaml", "env.json"):
        if (run / name).exists():
            text = _text((run / name).read_text())
            blocks.append(f"<details><summary>{name}</summary><pre>{text}</pre></details>")
    return "<h2>How it was made</h2>" + "".join(blocks)
