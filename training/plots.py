"""Inline SVG plots of the report: forest, curves with bands, calibration. Pure: numbers in, markup out."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 680
_LETTER = 7.2  # mean width at 13 px
_MARKS = ("c1", "c2", "c3", "c4", "c5", "c6")


@dataclass(frozen=True, slots=True)
class Point:
    """A figure with its interval, at `x` in a curve or named `label` in a forest."""

    value: float
    low: float
    high: float
    x: float = 0.0
    label: str = ""
    strong: bool = False


def short(value: float) -> str:
    """A share without its leading nought, other numbers to three figures."""
    if round(value, 3) == 0:
        return "0"
    text = (
        f"{value:.3f}".replace("0.", ".", 1)
        if abs(value) < 1
        else f"{value:.2f}"
        if abs(value) < 10
        else f"{value:.0f}"
    )
    return text.replace("-", "−")


def _ticks(low: float, high: float, most: int = 6) -> list[float]:
    span = max(high - low, 1e-9)
    step = next(s for e in range(-6, 7) for s in (10.0**e, 2 * 10.0**e, 5 * 10.0**e) if span / s <= most)
    first = int(low / step) - 1
    return [round(k * step, 9) for k in range(first, first + 2 * most + 4) if low - 1e-9 <= k * step <= high + 1e-9]


def _bounds(points: Sequence[Point]) -> tuple[float, float]:
    low, high = min(p.low for p in points), max(p.high for p in points)
    room = max(0.02 * max(abs(low), abs(high)), 0.06 * (high - low), 1e-3)
    return low - room, high + room


def _open(width: float, height: float, title: str) -> str:
    name = escape(title, quote=True)
    return f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{name}"><title>{escape(title)}</title>'


def forest(points: Sequence[Point], title: str, zero: float | None = None) -> str:
    """One line a point: its label, interval, value. `zero` draws a line of no difference."""
    if not points:
        return ""
    low, high = _bounds([*points, Point(zero, zero, zero)] if zero is not None else points)
    left, right, row = min(320, 24 + _LETTER * max(len(p.label) for p in points)), WIDTH - 150, 24
    height = len(points) * row + 34

    def at(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    parts = [_open(WIDTH, height, title)]
    for tick in _ticks(low, high):
        parts.append(f'<line class="grid" x1="{at(tick):.1f}" x2="{at(tick):.1f}" y1="4" y2="{height - 26}"/>')
        parts.append(
            f'<text class="tick" x="{at(tick):.1f}" y="{height - 10}" text-anchor="middle">{short(tick)}</text>'
        )
    if zero is not None:
        parts.append(f'<line class="axis" x1="{at(zero):.1f}" x2="{at(zero):.1f}" y1="4" y2="{height - 26}"/>')
    for number, point in enumerate(points):
        y = 16 + number * row
        kind = "c1" if point.strong else "c0"
        weight = ' font-weight="600"' if point.strong else ""
        told = f"{short(point.value)} [{short(point.low)}, {short(point.high)}]"
        parts += [
            f'<text x="{left - 12}" y="{y + 4}" text-anchor="end"{weight}>{escape(point.label)}</text>',
            f'<line class="{kind}" x1="{at(point.low):.1f}" x2="{at(point.high):.1f}" y1="{y}" y2="{y}" stroke-width="2"/>',
            f'<circle class="{kind}" cx="{at(point.value):.1f}" cy="{y}" r="4.5"/>',
            f'<text class="number" x="{right + 12}" y="{y + 4}"{weight}>{told}</text>',
        ]
    return "".join(parts) + "</svg>"


def curves(series: Sequence[tuple[str, Sequence[Point]]], title: str, x_label: str, percent_x: bool = False) -> str:
    """Lines with interval bands over x."""
    every = [point for _, points in series for point in points]
    if not every:
        return ""
    low, high = _bounds(every)
    x_low, x_high = min(p.x for p in every), max(p.x for p in every)
    left, right, top, bottom = 64, WIDTH - 20, 12, 250

    def x_at(value: float) -> float:
        return left + (value - x_low) / max(x_high - x_low, 1e-9) * (right - left)

    def y_at(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    parts = [_open(WIDTH, bottom + 50 + 20 * ((len(series) + 2) // 3), title)]
    for tick in _ticks(low, high):
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y_at(tick):.1f}" y2="{y_at(tick):.1f}"/>')
        parts.append(
            f'<text class="tick" x="{left - 8}" y="{y_at(tick) + 4:.1f}" text-anchor="end">{short(tick)}</text>'
        )
    for tick in _ticks(x_low, x_high, 10):
        text = f"{tick:.0%}" if percent_x else f"{tick:g}"
        parts.append(f'<text class="tick" x="{x_at(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{text}</text>')
    parts.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    for number, (name, points) in enumerate(series):
        mark = _MARKS[number % len(_MARKS)]
        line = " ".join(f"{x_at(p.x):.1f},{y_at(p.value):.1f}" for p in points)
        band = " ".join(f"{x_at(p.x):.1f},{y_at(p.low):.1f}" for p in points)
        band += " " + " ".join(f"{x_at(p.x):.1f},{y_at(p.high):.1f}" for p in reversed(points))
        parts += [f'<polygon class="{mark} band" points="{band}"/>', f'<polyline class="{mark} line" points="{line}"/>']
        parts += [f'<circle class="{mark}" cx="{x_at(p.x):.1f}" cy="{y_at(p.value):.1f}" r="3"/>' for p in points]
        x, y = left + (number % 3) * 210, bottom + 50 + 20 * (number // 3)
        parts.append(
            f'<circle class="{mark}" cx="{x + 5}" cy="{y - 4}" r="5"/><text x="{x + 16}" y="{y}">{escape(name)}</text>'
        )
    parts.append(f'<text class="tick" x="{right}" y="{bottom + 34}" text-anchor="end">{escape(x_label)}</text>')
    return "".join(parts) + "</svg>"


def calibration(points: Sequence[Point], title: str) -> str:
    """Share of events over the probability told; the diagonal is perfect."""
    if not points:
        return ""
    top_value = min(1.0, 1.08 * max(*(p.high for p in points), *(p.x for p in points)))
    left, top, side = 60, 12, 300
    bottom, right = top + side, left + side

    def at(value: float) -> float:
        return value / top_value * side

    parts = [_open(right + 20, bottom + 44, title)]
    for tick in _ticks(0.0, top_value):
        where = at(tick)
        parts += [
            f'<line class="grid" x1="{left}" x2="{right}" y1="{bottom - where:.1f}" y2="{bottom - where:.1f}"/>',
            f'<text class="tick" x="{left - 8}" y="{bottom - where + 4:.1f}" text-anchor="end">{short(tick)}</text>',
            f'<text class="tick" x="{left + where:.1f}" y="{bottom + 18}" text-anchor="middle">{short(tick)}</text>',
        ]
    parts.append(f'<line class="axis" stroke-dasharray="4 4" x1="{left}" y1="{bottom}" x2="{right}" y2="{top}"/>')
    for point in points:
        x = left + at(point.x)
        low, high = bottom - at(point.low), bottom - at(min(point.high, top_value))
        parts.append(f'<line class="c1" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke-width="2"/>')
        parts.append(f'<circle class="c1" cx="{x:.1f}" cy="{bottom - at(point.value):.1f}" r="4.5"/>')
    parts.append(f'<text class="tick" x="{right}" y="{bottom + 36}" text-anchor="end">probability told</text>')
    parts.append(f'<text class="tick" x="{left + 6}" y="{top + 10}">share with the event</text>')
    return "".join(parts) + "</svg>"
