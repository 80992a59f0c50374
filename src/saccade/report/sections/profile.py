"""What the stage "profile" found."""

from __future__ import annotations

from typing import Any

from saccade.report import figures
from saccade.report.html import text
from saccade.report.run_files import RunFiles
from saccade.report.sections.base import section


@section("profile.json")
def profile_section(run: RunFiles, summary: dict[str, Any]) -> str:
    """Spikes and energy by layer."""
    profile = run.read_json("profile.json")
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
        f"energy per image, nJ (convention “{text(profile['convention']['name'])}”)",
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
        cells = "".join(f'<td class="l">{text(row[key])}</td>' for _, key in columns)
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
        f"Means per image over {samples:,} test images. Spikes are counted exactly; synaptic operations (SOPs) are additions "
        "of a weight for a spike, exact at borders and strides; MACs are multiply-accumulates of analog inputs."
    )
    table = f'<div class="panel"><table><tr>{head}</tr>{"".join(body)}</table></div>'
    charts = f'<div class="row"><div class="panel">{spikes}</div><div class="panel">{energy}</div></div>'
    details = f"<details><summary>All layers</summary>{table}</details>"
    return f'<h2>Spikes and energy</h2><p class="muted">{note}</p>{charts}{details}'
