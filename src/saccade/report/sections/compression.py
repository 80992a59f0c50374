"""What the stage "prune" found."""

from __future__ import annotations

from typing import Any

from saccade.report import figures
from saccade.report.html import score_text, text
from saccade.report.run_files import RunFiles
from saccade.report.sections.base import section


@section("compression.json")
def compression_section(run: RunFiles, summary: dict[str, Any]) -> str:
    """Score over size, step by step."""
    score = summary["scores"][0]
    validation, tested = f"validation_{score['name']}", f"test_{score['name']}"
    steps = run.read_json("compression.json")["steps"]
    points = [(step["bytes_file"], step[validation]) for step in steps]
    figure = figures.score_over_bytes(
        {"validation": points}, [step["step"] for step in steps], label=score["name"], percent=score["percent"]
    )
    head = "<tr><th>step</th><th>parameters</th><th>counted, B</th><th>packed file, B</th><th>validation</th><th>test</th></tr>"
    body = ""
    for step in steps:
        test = score_text(score, step[tested]) if tested in step else ""
        cells = (f"{step['parameters']:,}", f"{step['bytes_qp']:,.0f}", f"{step['bytes_file']:,}")
        numbers = "".join(f"<td>{cell}</td>" for cell in (*cells, score_text(score, step[validation]), test))
        body += f"<tr><td>{text(step['step'])}</td>{numbers}</tr>"
    kept: dict[str, int] = next((step["kept"] for step in steps if "kept" in step), {})
    channels = ", ".join(f"{text(name)} {text(count)}" for name, count in kept.items())
    note = (
        "Counted: weights at the bits of their form, biases, norms and the rest at 32 (QP-SNN). Packed: the size of the file, "
        f"header included. Channels kept: {channels}. The last step is a run of its own, in finetune/."
    )
    table = f'<div class="panel"><table>{head}{body}</table></div>'
    return f'<h2>Compression</h2><p class="muted">{note}</p><div class="panel">{figure}</div>{table}'
