"""What the stage "profile" found."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from saccade.report import figures
from saccade.report.pages import render
from saccade.report.run_files import RunFiles
from saccade.report.sections.base import section


@section("profile.json")
def profile_section(run: RunFiles, summary: dict[str, Any]) -> Markup:
    """Spikes and energy by layer."""
    profile = run.read_json("profile.json")
    layers = profile["layers"]
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
    label = f"energy per image, nJ (convention “{profile['convention']['name']}”)"
    energy = figures.bars(names, {"energy": values}, label)
    return render("sections/profile.html", samples=profile["samples"], layers=layers, spikes=spikes, energy=energy)
