"""What `bench mix` makes of answered events: groups of one round, medians of rounds, what the mix adds. Pure."""

import statistics
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NEAR_S = 0.05
"""A vitals event counts as near a note or a scan that was produced at most so long before it."""
PERCENTILES = ("p50", "p99")

Figures = Mapping[str, float]
"""p50, p99 and max in ms, and n."""


@dataclass(slots=True)
class Sent:
    """An event: when it was produced and answered, in seconds of one clock; 0 = not yet."""

    kind: str
    at: float
    marked: bool  # its patient had a note or a scan by then
    answered: float = 0.0


def groups(sent: Sequence[Sent]) -> dict[str, Figures]:
    """Figures of each group of one round's events that is not empty."""
    vitals = [one for one in sent if one.kind == "vitals"]
    notes, scans = ([one for one in sent if one.kind == kind] for kind in ("notes", "scans"))
    near_note, near_scan = _near(notes), _near(scans)
    found: dict[str, list[Sent]] = {
        "vitals": vitals,
        "notes": notes,
        "scans": scans,
        "vitals of patients with a note or a scan": [one for one in vitals if one.marked],
        "vitals of other patients": [one for one in vitals if not one.marked],
    }
    if notes or scans:
        found |= {
            "vitals near a note": [one for one in vitals if near_note(one)],
            "vitals near a scan": [one for one in vitals if near_scan(one)],
            "vitals while a note is under way": [one for one in vitals if _under_way(one, notes)],
            "vitals while a scan is under way": [one for one in vitals if _under_way(one, scans)],
            "vitals far from both": [one for one in vitals if not near_note(one) and not near_scan(one)],
        }
    return {name: _figures(members) for name, members in found.items() if members}


def compared(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`medians` over rounds by system, load and group; of vitals with the mix over those alone, and of those alone over
    bare ones, `ratios` and `rise_ms`; `held_up_ms`: vitals near a note or a scan less those far from both.
    """
    medians: dict[str, dict[str, dict[str, Figures]]] = {}
    for run in runs:
        of_load = medians.setdefault(run["system"], {}).setdefault(run["load"], {})
        for name in run["groups"]:
            rounds = [
                one["groups"][name]
                for one in runs
                if (one["system"], one["load"]) == (run["system"], run["load"]) and name in one["groups"]
            ]
            of_load[name] = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
    ratios: dict[str, Figures] = {}
    rise_ms: dict[str, Figures] = {}
    held_up_ms: dict[str, dict[str, Figures]] = {}
    for system, loads in medians.items():
        for load, base in (("mix", "alone"), ("alone", "bare")):
            if load in loads and base in loads:
                one, other, name = loads[load]["vitals"], loads[base]["vitals"], f"{system}, {load} over {base}"
                ratios[name] = {key: one[key] / other[key] for key in PERCENTILES}
                rise_ms[name] = {key: one[key] - other[key] for key in PERCENTILES}
        far = loads["mix"]["vitals far from both"]
        held_up_ms[system] = {
            name: {key: loads["mix"][name][key] - far[key] for key in (*PERCENTILES, "max")}
            for name in ("vitals near a note", "vitals near a scan")
            if name in loads["mix"]
        }
    return {"medians": medians, "ratios": ratios, "rise_ms": rise_ms, "held_up_ms": held_up_ms}


def line(name: str, figures: Figures) -> str:
    """One group's figures for people."""
    return f"{name:<42} p50 {figures['p50']:7.2f} ms  p99 {figures['p99']:8.2f} ms  n {figures['n']:.0f}"


def _near(others: Sequence[Sent]) -> Callable[[Sent], bool]:
    times = sorted(one.at for one in others)

    def near(one: Sent) -> bool:
        place = bisect_right(times, one.at)
        return place > 0 and one.at - times[place - 1] <= NEAR_S

    return near


def _under_way(one: Sent, others: Sequence[Sent]) -> bool:
    return any(other.at <= one.at < other.answered for other in others)


def _figures(members: Sequence[Sent]) -> Figures:
    ms = [(one.answered - one.at) * 1e3 for one in members]
    p50, p99 = np.percentile(ms, [50, 99])
    return {"p50": float(p50), "p99": float(p99), "max": max(ms), "n": len(ms)}
