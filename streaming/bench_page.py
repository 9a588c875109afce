"""The page of `bench engine`: plots as inline SVG, no script, nothing loaded. Owns how it looks."""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from streaming.latency import write_with_page

_WIDTH, _LEFT, _ROW = 520, 150, 22


def write(report: Mapping[str, Any], path: Path) -> Path:
    """The JSON, and the page beside it; gives the page's path."""
    return write_with_page(report, path, _page(report))


def _page(report: Mapping[str, Any]) -> str:
    ran = {name: result for name, result in report["backends"].items() if "refused" not in result}
    refused = {name: result["refused"] for name, result in report["backends"].items() if "refused" in result}

    def each(figure: Callable[[Mapping[str, Any]], Any]) -> dict[str, Any]:
        return {name: figure(result) for name, result in ran.items()}

    sections = [
        ("One vitals update (dark) and the whole model (pale), ms", _bars(each(_update_and_whole))),
        ("Event loop late while a thread infers, ms: p50 (dark), p99 (pale)", _bars(each(_loop_lag))),
        (
            "Cold start, s: a new process until its first score",
            _table(each(lambda r: {"s": r["cold_start_s"]}), "{:.2f}"),
        ),
        ("Scored updates a second, by rows in a batch", _table(each(lambda r: r["scored_updates_per_s"]), "{:.0f}")),
    ]
    for part in next(iter(ran.values()))["parts_ms"]:
        sections.append((f"{part}: ms by rows in a batch", _table(each(lambda r, p=part: r["parts_ms"][p]), "{:.3f}")))
    sections.append(("Largest error against the reference", _table(each(lambda r: r["errors"]), "{:.1e}")))
    body = "".join(f"<h2>{html.escape(title)}</h2>{content}" for title, content in sections)
    notes = "".join(f"<li>{html.escape(name)}: {html.escape(why)}</li>" for name, why in refused.items())
    measured = html.escape(orjson.dumps(report["machine"]).decode())
    return _TEMPLATE.format(body=body, notes=notes, machine=measured, model=html.escape(report["model"][:12]))


def _update_and_whole(result: Mapping[str, Any]) -> tuple[float, float]:
    return result["update_ms"]["1"], result["whole_ms"]


def _loop_lag(result: Mapping[str, Any]) -> tuple[float, float]:
    return result["loop_lag_ms"]["inferring"]["p50"], result["loop_lag_ms"]["inferring"]["p99"]


def _bars(pairs: Mapping[str, Sequence[float]]) -> str:
    """A dark bar over a pale one for each name, on a logarithmic axis."""
    values = [max(value, 1e-3) for pair in pairs.values() for value in pair]
    low, high = min(values) / 2, max(values)

    def length(value: float) -> float:
        return _WIDTH * math.log(max(value, low) / low) / max(math.log(high / low), 1e-9)

    drawn = []
    for row, (name, (dark, pale)) in enumerate(pairs.items()):
        y = 6 + _ROW * row
        drawn.append(f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">{html.escape(name)}</text>')
        for value, kind in ((pale, "pale"), (dark, "dark")):
            drawn.append(f'<rect x="{_LEFT}" y="{y}" width="{length(value):.1f}" height="16" class="{kind}"/>')
        drawn.append(f'<text x="{_LEFT + length(max(dark, pale)) + 6:.1f}" y="{y + 12}">{dark:.3g} / {pale:.3g}</text>')
    return f'<svg viewBox="0 0 800 {12 + _ROW * len(pairs)}" role="img">{"".join(drawn)}</svg>'


def _table(rows: Mapping[str, Mapping[str, float]], form: str) -> str:
    columns = next(iter(rows.values()))
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    lines = []
    for name, row in rows.items():
        cells = "".join(f"<td>{form.format(row[column])}</td>" for column in columns)
        lines.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    return f"<table><thead><tr><th></th>{head}</tr></thead>{''.join(lines)}</table>"


_TEMPLATE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Wardwatch engine</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><style>
:root{{color-scheme:light dark;--ink:#1b2430;--soft:#6b7785;--bar:#2467c4;--pale:#b9d2f3;--ground:#fbfcfd}}
@media(prefers-color-scheme:dark){{:root{{--ink:#e6ebf0;--soft:#95a1ae;--bar:#6aa5f0;--pale:#2a456b;--ground:#12171d}}}}
body{{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground);max-width:860px;margin:2rem auto;
padding:0 1rem}}h1{{font-size:1.4rem}}h2{{font-size:1.05rem;margin-top:2rem}}table{{border-collapse:collapse}}
th{{text-align:left;font-weight:500;padding:.15rem 1.2rem .15rem 0}}thead th{{color:var(--soft)}}
td{{text-align:right;font-variant-numeric:tabular-nums;padding:.15rem 1.2rem .15rem 0}}
svg{{width:100%}}svg text{{font-size:12px;fill:var(--ink)}}.dark{{fill:var(--bar)}}.pale{{fill:var(--pale)}}
ul,p{{color:var(--soft);overflow-wrap:anywhere}}</style>
<h1>Wardwatch: the engine by itself</h1><p>Model {model}; every backend in a process of its own, one thread.</p>{body}
<h2>What does not run here</h2><ul>{notes}</ul><p>{machine}</p></html>
"""
