"""What the stage "natural_pruning" found."""

from __future__ import annotations

from typing import Any

from saccade.report.html import text
from saccade.report.run_files import RunFiles
from saccade.report.sections.base import section


@section("pruning.json")
def pruning_section(run: RunFiles, summary: dict[str, Any]) -> str:
    """Shortcuts, what became of them, and what their removal changed."""
    record = run.read_json("pruning.json")
    head = '<tr><th>shortcut</th><th>spikes</th><th>rate</th><th>gate rate</th><th>verdict</th><th class="l">story</th></tr>'
    body = ""
    for row in record["shortcuts"]:
        gate = "" if row["gate_rate"] is None else f"{row['gate_rate']:.4f}"
        verdict = '<b class="good">removed</b>' if row["removed"] else "kept"
        numbers = f"<td>{row['spikes']:,}</td><td>{row['rate']:.5f}</td><td>{gate}</td>"
        body += (
            f'<tr><td>{text(row["path"])}</td>{numbers}<td>{verdict}</td><td class="l">{text(row["story"])}</td></tr>'
        )
    lines = []
    for key, where in (("measured", "training and validation data"), ("test", "test set")):
        result = record[key]
        if result:
            if result["equal"]:
                words = '<b class="good">identical bit for bit</b>'
            else:
                differs = f"{result['differing_samples']} images differ, by up to {result['largest_difference']:.3g}"
                words = f'<b class="bad">{differs}</b>'
            lines.append(f"<p>Logits before and after on the {where}: {words} ({result['samples']:,} images).</p>")
    count = record["parameters"]
    lines.append(f"<p>Parameters: {count['before']:,} before, {count['after']:,} after.</p>")
    return f'<h2>Natural pruning</h2><div class="panel"><table>{head}{body}</table>{"".join(lines)}</div>'
