"""Latency histograms and the report of a replay: JSON for machines, one HTML page with plots for people."""

import html
import os
import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from hdrh.histogram import HdrHistogram

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}
_LONGEST_US = 3_600_000_000


class Latency:
    """HDR histograms by name, microsecond resolution, three digits, up to an hour."""

    def __init__(self) -> None:
        self._histograms: dict[str, HdrHistogram] = {}

    def record(self, name: str, ms: float) -> None:
        """One value in milliseconds; below zero counts as zero (two processes, one clock, its resolution)."""
        if name not in self._histograms:
            self._histograms[name] = HdrHistogram(1, _LONGEST_US, 3)
        self._histograms[name].record_value(min(max(int(ms * 1000), 1), _LONGEST_US))

    def summary(self) -> dict[str, dict[str, float]]:
        """`{name: {p50, p90, p99, p999, max, count}}` in ms."""
        return {
            name: {key: h.get_value_at_percentile(p) / 1000 for key, p in PERCENTILES.items()}
            | {"max": h.get_max_value() / 1000, "count": h.get_total_count()}
            for name, h in self._histograms.items()
        }


def peak_rss_mb(pid: int) -> float:
    """Peak resident memory of a process and its children, in MiB (Linux; 0 where /proc has nothing)."""
    total = 0.0
    pids = [pid]
    for one in pids:
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                pids += [int(child) for child in (task / "children").read_text(encoding="utf-8").split()]
            status = Path(f"/proc/{one}/status").read_text(encoding="utf-8")
            total += int(status.split("VmHWM:")[1].split()[0]) / 1024
        except (OSError, IndexError):
            continue
    return round(total, 1)


def machine() -> dict[str, Any]:
    """What a number was measured on."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {
            name: version(name) for name in ("wardwatch", "faust-streaming", "aiokafka", "onnxruntime", "redis")
        },
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def write(report: Mapping[str, Any], path: Path) -> Path:
    """A replay's report: the JSON, and the page beside it; gives the page's path."""
    return write_with_page(report, path, _page(report))


def write_with_page(report: Mapping[str, Any], path: Path, text: str) -> Path:
    """The JSON, and a page of HTML beside it; gives the page's path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")
    page = path.with_suffix(".html")
    page.write_text(text, encoding="utf-8")
    return page


def _page(report: Mapping[str, Any]) -> str:
    counts = "".join(f"<tr><th>{html.escape(k)}</th><td>{v}</td></tr>" for k, v in report["counts"].items())
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th>" + "".join(f"<td>{s[k]:.2f}</td>" for k in (*PERCENTILES, "max")) + "</tr>"
        for name, s in report["latency_ms"].items()
    )
    notes = "".join(f"<li>{html.escape(line)}</li>" for line in report.get("notes", ()))
    return _TEMPLATE.format(counts=counts, rows=rows, plot=_plot(report["latency_ms"]), notes=notes)


def _plot(latency: Mapping[str, Mapping[str, float]]) -> str:
    """p50 (solid) to p99 (pale) per stage on a logarithmic axis, as inline SVG."""
    import math

    names = [name for name in latency if latency[name]["p99"] > 0]
    low, high = 0.01, max([latency[name]["p99"] for name in names] + [1.0])

    def x(ms: float) -> float:
        return 130 + 520 * math.log(max(ms, low) / low) / math.log(high / low)

    parts = []
    for row, name in enumerate(names):
        y = 24 + 26 * row
        p50, p99 = latency[name]["p50"], latency[name]["p99"]
        parts.append(f'<text x="122" y="{y + 12}" text-anchor="end">{html.escape(name)}</text>')
        parts.append(f'<rect x="130" y="{y}" width="{x(p99) - 130:.1f}" height="16" class="p99"/>')
        parts.append(f'<rect x="130" y="{y}" width="{x(p50) - 130:.1f}" height="16" class="p50"/>')
        parts.append(f'<text x="{x(p99) + 6:.1f}" y="{y + 12}">{p50:.2f} / {p99:.2f}</text>')
    return f'<svg viewBox="0 0 780 {40 + 26 * len(names)}" role="img" aria-label="p50 and p99 per stage">{"".join(parts)}</svg>'


_TEMPLATE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Wardwatch replay</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><style>
:root{{color-scheme:light dark;--ink:#1b2430;--soft:#6b7785;--bar:#2467c4;--pale:#b9d2f3;--ground:#fbfcfd}}
@media(prefers-color-scheme:dark){{:root{{--ink:#e6ebf0;--soft:#95a1ae;--bar:#6aa5f0;--pale:#2a456b;--ground:#12171d}}}}
body{{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground);max-width:820px;margin:2rem auto;
padding:0 1rem}}h1{{font-size:1.4rem}}h2{{font-size:1.05rem;margin-top:2rem}}table{{border-collapse:collapse}}
th{{text-align:left;font-weight:500;padding:.15rem 1.2rem .15rem 0}}
td{{text-align:right;font-variant-numeric:tabular-nums;padding:.15rem .8rem}}
thead th{{text-align:right;color:var(--soft)}}svg{{width:100%}}svg text{{font-size:12px;fill:var(--ink)}}
.p50{{fill:var(--bar)}}.p99{{fill:var(--pale)}}ul,p{{color:var(--soft)}}</style>
<h1>Wardwatch replay: latency report</h1><table>{counts}</table>
<h2>Latency in ms: p50 (dark) and p99 (pale), logarithmic</h2>{plot}
<table><thead><tr><th></th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th></tr></thead>{rows}</table>
<ul>{notes}</ul></html>
"""
