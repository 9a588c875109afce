"""Pages of measurements: HTML that stands alone, with plots as inline SVG, no script, nothing loaded."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import orjson

_WIDTH, _ROW, _LETTER = 820, 22, 7.0
_NUMBERS = 150
"""Width kept free beside bars for what they measure."""
_HUES = ("a", "b", "c", "d", "e")

Section = tuple[str, str]
"""A heading, and the markup under it."""


def write(report: Mapping[str, Any], path: Path, page: str) -> Path:
    """The JSON, and the page beside it; gives the page's path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")
    beside = path.with_suffix(".html")
    beside.write_text(page, encoding="utf-8")
    return beside


def page(title: str, about: str, sections: Sequence[Section], foot: str = "") -> str:
    """A whole page; title, about and foot are text, sections markup."""
    body = "".join(f"<h2>{escape(heading)}</h2>{content}" for heading, content in sections)
    return _TEMPLATE.format(title=escape(title), about=escape(about), body=body, foot=escape(foot))


def bars(values: Mapping[str, Sequence[float]], title: str) -> str:
    """Of each name one bar, or a dark one over a pale one, on a logarithmic axis; what is not above 0 has no length."""
    left = 14 + _LETTER * max(len(name) for name in values)
    above = [value for row in values.values() for value in row if value > 0]
    low, high = min(above, default=1.0) / 2, max(above, default=1.0)
    room = _WIDTH - left - _NUMBERS

    def length(value: float) -> float:
        return room * math.log(max(value, low) / low) / math.log(max(high, 1.001 * low) / low)

    drawn = []
    for number, (name, row) in enumerate(values.items()):
        y = 6 + _ROW * number
        drawn.append(f'<text x="{left - 8:.0f}" y="{y + 12}" text-anchor="end">{escape(name)}</text>')
        for value, kind in zip(reversed(row), ("pale", "dark")[-len(row) :], strict=True):
            drawn.append(f'<rect x="{left:.0f}" y="{y}" width="{length(value):.1f}" height="16" class="{kind}"/>')
        told = " / ".join(_figure(value) for value in row)
        drawn.append(f'<text x="{left + length(max(row)) + 6:.1f}" y="{y + 12}">{told}</text>')
    return _svg(12 + _ROW * len(values), title, drawn)


def lines(series: Mapping[str, Sequence[tuple[float, float]]], title: str, x_name: str) -> str:
    """One line a name through its points (x, y), all above 0, both axes logarithmic."""
    points = [point for line in series.values() for point in line]
    xs, ys = sorted({x for x, _ in points}), [y for _, y in points]
    left, right, top, bottom = 60, _WIDTH - 170, 12, 250
    x_span = math.log(max(xs[-1] / xs[0], 1.001))
    y_low, y_high = min(ys) / 1.15, max(ys) * 1.15

    def at(x: float, y: float) -> tuple[float, float]:
        across = math.log(x / xs[0]) / x_span
        up = math.log(y / y_low) / math.log(y_high / y_low)
        return left + across * (right - left), bottom - up * (bottom - top)

    drawn = []
    for tick in _ticks(y_low, y_high):
        y = at(xs[0], tick)[1]
        drawn.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text class="soft" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for x in xs:
        where = at(x, y_low)[0]
        drawn.append(f'<text class="soft" x="{where:.1f}" y="{bottom + 18}" text-anchor="middle">{x:,.0f}</text>')
    drawn.append(f'<text class="soft" x="{right}" y="{bottom + 36}" text-anchor="end">{escape(x_name)}</text>')
    labelled: list[float] = []
    for hue, (name, line) in zip(_HUES, sorted(series.items(), key=lambda one: one[1][-1][1]), strict=False):
        placed = [at(*point) for point in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        drawn.append(f'<polyline class="{hue}" points="{path}"/>')
        drawn += [f'<circle class="{hue}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in placed]
        label = min([placed[-1][1] + 4, *(y - 15 for y in labelled[-1:])])  # names do not lie over each other
        labelled.append(label)
        drawn.append(f'<text class="{hue}" x="{placed[-1][0] + 10:.1f}" y="{label:.1f}">{escape(name)}</text>')
    return _svg(bottom + 46, title, drawn)


def table(rows: Mapping[str, Mapping[str, float | str]], form: str = "") -> str:
    """Figures by row and column; `form` is a format of `str.format` for numbers."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = []
    for name, row in rows.items():
        cells = "".join(f"<td>{_cell(row.get(column, ''), form)}</td>" for column in columns)
        body.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return f"<table><thead><tr><th></th>{head}</tr></thead>{''.join(body)}</table>"


def listing(texts: Sequence[str]) -> str:
    """A plain list."""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>" if texts else ""


def _figure(value: float) -> str:
    """To three figures, thousands grouped."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cell(value: float | str, form: str) -> str:
    if isinstance(value, str):
        return escape(value)
    return form.format(value) if form else _figure(value)


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every decade between; never fewer than the ends' decades have."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [m * 10.0**e for e in range(first, last + 1) for m in (1, 2, 5) if low <= m * 10.0**e <= high]


def _svg(height: float, title: str, drawn: Sequence[str]) -> str:
    name = escape(title, quote=True)
    return f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{name}">{"".join(drawn)}</svg>'


_TEMPLATE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><style>
:root{{color-scheme:light dark;--ink:#1b2430;--soft:#5f6b79;--bar:#2467c4;--pale:#b9d2f3;--ground:#fbfcfd;--grid:#e3e8ee;
--a:#2467c4;--b:#b4532a;--c:#2f7d4f;--d:#7a4fb0;--e:#8a6d1a}}
@media(prefers-color-scheme:dark){{:root{{--ink:#e6ebf0;--soft:#9aa6b3;--bar:#6aa5f0;--pale:#2a456b;--ground:#12171d;
--grid:#28313b;--a:#6aa5f0;--b:#e39067;--c:#6fc08f;--d:#b896e6;--e:#d3b75c}}}}
body{{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground);max-width:900px;margin:2rem auto;
padding:0 1rem}}h1{{font-size:1.4rem}}h2{{font-size:1.05rem;margin-top:2rem}}
table{{border-collapse:collapse;display:block;overflow-x:auto}}
th{{text-align:left;font-weight:500;padding:.15rem 1.2rem .15rem 0}}
thead th{{text-align:right;color:var(--soft);padding:.15rem 0 .15rem 1.2rem}}
td{{text-align:right;font-variant-numeric:tabular-nums;padding:.15rem 0 .15rem 1.2rem}}
svg{{width:100%}}svg text{{font-size:12px;fill:var(--ink)}}svg .soft{{fill:var(--soft)}}
.dark{{fill:var(--bar)}}.pale{{fill:var(--pale)}}.grid{{stroke:var(--grid)}}polyline{{fill:none;stroke-width:2}}
polyline.a{{stroke:var(--a)}}polyline.b{{stroke:var(--b)}}polyline.c{{stroke:var(--c)}}polyline.d{{stroke:var(--d)}}
polyline.e{{stroke:var(--e)}}svg .a:not(polyline){{fill:var(--a)}}svg .b:not(polyline){{fill:var(--b)}}
svg .c:not(polyline){{fill:var(--c)}}svg .d:not(polyline){{fill:var(--d)}}svg .e:not(polyline){{fill:var(--e)}}
ul,p{{color:var(--soft);overflow-wrap:anywhere}}</style>
<h1>{title}</h1><p>{about}</p>{body}<p>{foot}</p></html>
"""
