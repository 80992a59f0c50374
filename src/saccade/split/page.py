"""A federation on one page: losses, cuts, bytes. The same page is a report on disk and, while it runs, a live view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from saccade.report import fill
from saccade.split.ledger import KINDS

COLOURS = ("#2563eb", "#ea7317", "#0f9d77", "#7c3aed", "#d6336c")

PAGE = """{% extends "page.html" %}
{% block style %}.wide{overflow-x:auto} svg .axis{stroke:var(--line)} svg text{fill:var(--muted);font-size:11px}{% endblock %}
{% block body %}
<h1>{{ title }}</h1><p class="muted">{{ subtitle }}</p>
<div class="cards">{% for value, words in cards %}<div class="card"><b>{{ value }}</b><span>{{ words
}}</span></div>{% endfor %}</div> {% if charts %}<h2>Loss</h2><div class="row">{% for chart in charts %}<div
class="panel">{{ chart }}</div>{% endfor %}</div>{% endif %} <h2>Bytes</h2><div
class="panel"><table><tr><th>kind</th><th>up</th><th>down</th><th>share</th></tr> {% for kind, up, down, share in
bytes %}<tr><td>{{ kind }}</td><td>{{ up }}</td><td>{{ down }}</td><td>{{ share }}</td></tr>{% endfor %} </table></div>
<h2>Clients</h2><div class="panel wide"><table><tr><th>client</th><th>cut</th><th>rounds</th><th>last loss,
nats</th><th>state</th></tr> {% for c in clients %}<tr><td>{{ c.name }}</td><td>{{ c.cut }}</td><td>{{ c.rounds
}}</td><td>{{ c.loss }}</td><td>{{ c.state }}</td></tr>{% endfor %} </table></div>
{% if rounds %}<h2>Last rounds</h2><div class="panel wide"><table>
<tr><th>round</th><th>finished</th><th>counted</th><th>train loss</th><th>held-out
loss</th><th>seconds</th><th>bytes</th><th>dropped batches</th></tr> {% for r in rounds %}<tr><td>{{ r.round
}}</td><td>{{ r.finished }} of {{ r.asked }}</td><td>{{ "yes" if r.counted else "no" }}</td> <td>{{ r.train
}}</td><td>{{ r.eval }}</td><td>{{ r.seconds }}</td><td>{{ r.bytes }}</td><td>{{ r.dropped }}</td></tr>{% endfor
%}</table></div>{% endif %} {% endblock %}"""


CHART = """<svg viewBox="0 0 {{ wide }} {{ high }}" role="img">
{% for text, y in marks %}<line class="axis" x1="{{ left }}" x2="{{ wide }}" y1="{{ y }}" y2="{{ y }}"/>
<text x="{{ left - 6 }}" y="{{ y }}" text-anchor="end" dy="4">{{ text }}</text>{% endfor %}
{% for text, x in ends %}<text x="{{ x }}" y="{{ high - 18 }}" text-anchor="{{ "start" if loop.first else "end"
}}">{{ text }}</text> {% endfor %}<text x="{{ wide / 2 }}" y="{{ high - 4 }}" text-anchor="middle">{{ label }}</text>
{% for name, colour, line in drawn %}
<polyline points="{{ line }}" fill="none" stroke="{{ colour }}" stroke-width="2"/>
<text x="{{ wide - 14 }}" y="{{ 14 + 14 * loop.index0 }}" text-anchor="end" style="fill:{{ colour }}">{{ name }}</text>
{% endfor %}</svg>"""


def page(record: Mapping[str, Any], states: Mapping[str, str] | None = None) -> Markup:
    """HTML of a federation's record (``Federation.record``). states: what clients do now, where somebody knows."""
    history, cuts = record["history"], record["cuts"]
    counts = record["ledger"]
    total = sum(counts.values()) or 1
    scored = [row for row in history if "eval_loss" in row]
    last = scored[-1]["eval_loss"] if scored else None
    cards = [
        (f"{record['round']} of {record['rounds']}", "rounds"),
        ("–" if last is None else f"{last:.4f}", "held-out loss, nats a token"),
        (amount(sum(counts.values())), "moved, all clients and ways"),
        (f"{record['clock_s']:,.1f} s", record["clock"]),
    ]
    bytes_rows = [
        (
            kind,
            amount(counts[f"up/{kind}"]),
            amount(counts[f"down/{kind}"]),
            f"{(counts[f'up/{kind}'] + counts[f'down/{kind}']) / total:.1%}",
        )
        for kind in KINDS
    ]
    rounds = [
        {
            "round": row["round"], "finished": row["finished"], "asked": row["asked"], "counted": row["counted"],
            "train": number(row["train_loss"]), "eval": number(row.get("eval_loss")), "seconds": f"{row['seconds']:.2f}",
            "bytes": amount(sum(row["bytes"].values())), "dropped": row["dropped_batches"],
        }
        for row in history[:-21:-1]
    ]  # fmt: skip
    clients = []
    for name in list(cuts)[:512]:
        own = [row for row in history if name in row["losses"]]
        clients.append(
            {
                "name": name,
                "cut": cuts[name],
                "rounds": len(own),
                "loss": number(own[-1]["losses"][name]) if own else "–",
                "state": (states or {}).get(name, "–"),
            }
        )
    return fill(
        PAGE,
        title=record["title"],
        subtitle=record["subtitle"],
        cards=cards,
        charts=_charts(history, scored),
        bytes=bytes_rows,
        clients=clients,
        rounds=rounds,
    )


def _charts(history: Sequence[Mapping[str, Any]], scored: Sequence[Mapping[str, Any]]) -> list[Markup]:
    if len(history) < 2:
        return []
    moved, at = [], 0
    for row in history:
        at += sum(row["bytes"].values())
        moved.append(at / 1e6)
    of = {row["round"]: place for place, row in enumerate(history)}
    trained = [row for row in history if row["train_loss"] is not None]
    lines = {
        "training": [(row["round"] + 1, row["train_loss"]) for row in trained],
        "held out": [(row["round"] + 1, row["eval_loss"]) for row in scored],
    }
    return [
        chart(lines, "round"),
        chart({"held out": [(row["clock_s"], row["eval_loss"]) for row in scored]}, "seconds"),
        chart({"held out": [(moved[of[row["round"]]], row["eval_loss"]) for row in scored]}, "MB moved"),
    ]


def chart(lines: Mapping[str, Sequence[tuple[float, float]]], x_label: str) -> Markup:
    """Lines over a common axis, as SVG."""
    points = [point for line in lines.values() for point in line]
    if not points:
        return Markup("")
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    wide, high, left, low = 420, 220, 46, 34

    def place(x: float, y: float) -> str:
        px = left + (x - x0) / ((x1 - x0) or 1) * (wide - left - 12)
        py = 12 + (y1 - y) / ((y1 - y0) or 1) * (high - low - 12)
        return f"{px:.1f},{py:.1f}"

    drawn = [
        (name, COLOURS[i % len(COLOURS)], " ".join(place(x, y) for x, y in line))
        for i, (name, line) in enumerate(lines.items())
        if line
    ]
    marks = [(f"{y:.3g}", place(x0, y).split(",")[1]) for y in (y0, (y0 + y1) / 2, y1)]
    ends = [(f"{x:.4g}", place(x, y0).split(",")[0]) for x in (x0, x1)]
    return fill(CHART, wide=wide, high=high, left=left, marks=marks, ends=ends, drawn=drawn, label=x_label)


def amount(count: float) -> str:
    """Bytes, as people read them (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{count:.4g} TB"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
