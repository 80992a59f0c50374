"""Pieces of the page: its style, text made safe, numbers for people."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;color:#1f2933;background:#f5f7fa;margin:0}
main{max-width:1080px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:24px;margin:0 0 2px} h2{font-size:18px;margin:36px 0 10px} p{margin:6px 0} .muted{color:#616e7c}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px;margin:18px 0}
.card{background:#fff;border:1px solid #e4e7eb;border-radius:8px;padding:12px 14px}
.card b{display:block;font-size:22px;font-variant-numeric:tabular-nums} .card span{color:#616e7c;font-size:13px}
.panel{background:#fff;border:1px solid #e4e7eb;border-radius:8px;padding:14px 16px;overflow-x:auto}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(430px,100%),1fr));gap:14px}
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


def text(value: object) -> str:
    """Anything as text that HTML cannot read as markup."""
    return html.escape(str(value))


def score_text(score: Mapping[str, Any], value: float | None) -> str:
    """A value of a score, as summaries describe scores: ``{name, best, percent}``."""
    if value is None:
        return "–"
    return f"{value:.2%}" if score["percent"] else f"{value:.4g}"
