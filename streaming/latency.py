"""Latency histograms and the report of a replay: JSON for machines, one HTML page with plots for people."""

import os
import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hdrh.histogram import HdrHistogram

from streaming import pages

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
    measured = {name: told for name, told in report["latency_ms"].items() if told["count"]}
    columns = {key: key for key in PERCENTILES} | {"p999": "p99.9", "max": "max"}
    sections = [
        ("Counts", pages.table({name: {"": count} for name, count in report["counts"].items()}, "{:,}")),
        (
            "Latency in ms: p50 (dark) and p99 (pale), logarithmic",
            pages.bars({name: (told["p50"], told["p99"]) for name, told in measured.items()}, "p50 and p99 a stage")
            + pages.table(
                {n: {shown: told[key] for key, shown in columns.items()} for n, told in measured.items()}, "{:,.2f}"
            ),
        ),
        ("Notes", pages.listing(report.get("notes", ()))),
    ]
    about = "From produced to received, and each stage of the worker, by the records' own times."
    return pages.write(report, path, pages.page("Wardwatch replay: latency report", about, sections))
