"""The pages of `wardwatch bench`: which figures of a result are plotted and how they are called. Pure."""

from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from streaming import pages
from streaming.pages import Section

Report = Mapping[str, Any]
_PERCENTILES = ("p50", "p99")
_KIB = 1024


def write(bench: str, report: Report, path: Path) -> Path:
    """The result of `wardwatch bench <bench>` as JSON, and its page beside it; gives the page's path."""
    title, about, make = _PAGES[bench]
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    foot = (
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']} {machine['machine']}, "
        f"Python {machine['python']}, {versions}; {machine['measured_at']}."
    )
    return pages.write(report, path, pages.page(title, about, make(report), foot))


def medians(runs: list[Report], key: str, *figures: str) -> dict[str, dict[str, float]]:
    """Of each distinct `run[key]`, in order of appearance, the median of every figure over its rounds."""
    members: dict[str, list[Report]] = {}
    for run in runs:
        members.setdefault(run[key], []).append(run)
    return {name: {one: median(run[one] for run in of_name) for one in figures} for name, of_name in members.items()}


def medians_by_rate(report: Report) -> dict[int, dict[str, dict[str, float]]]:
    """Of a latency result `medians` of p50, p99 and CPU time by system, at each rate, ascending."""
    runs = report["runs"]
    return {
        rate: medians([run for run in runs if run["rate"] == rate], "name", *_PERCENTILES, "cpu_ms_per_event")
        for rate in sorted({run["rate"] for run in runs})
    }


def _pairs(found: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    return {name: (told["p50"], told["p99"]) for name, told in found.items()}


def _over(ratios: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """`{"p50_vs_faust": r}` as `{"faust": {"p50": r}}`."""
    found: dict[str, dict[str, float]] = {}
    for name, ratio in ratios.items():
        key, _, peer = name.partition("_vs_")
        found.setdefault(peer, {})[key] = ratio
    return found


def _latency(report: Report) -> list[Section]:
    told = medians_by_rate(report)
    rates = list(told)
    systems = list(told[rates[0]])
    sections = []
    for key in _PERCENTILES:
        by_rate = {s: [(rate, told[rate][s][key]) for rate in rates] for s in systems}
        plot = pages.lines(by_rate, f"{key} by rate", "events/s") if len(rates) > 1 else ""
        shown = {s: {f"{rate:,}/s": value for rate, value in line} for s, line in by_rate.items()}
        sections.append((f"{key} in ms, by events a second", plot + pages.table(shown, "{:.2f}")))
    cpu = {s: {f"{rate:,}/s": told[rate][s]["cpu_ms_per_event"] for rate in rates} for s in systems}
    sections.append(("The system's own processor time an event, ms", pages.table(cpu, "{:.2f}")))
    over = {rate: _over(report["ratios"][str(rate)]) for rate in rates}
    for peer in over[rates[0]]:
        ratios = {f"{rate:,}/s": over[rate][peer] for rate in rates}
        sections.append((f"Wardwatch over {peer}: medians over medians", pages.table(ratios, "{:.2f}")))
    return sections


def _throughput(report: Report) -> list[Section]:
    told = medians(report["runs"], "system", "per_s", "per_cpu_s")
    names = {"per_s": "events/s", "per_cpu_s": "events/s of its own CPU"}
    shown = {name: {names[key]: value for key, value in row.items()} for name, row in told.items()}
    sections = [
        ("Events a second", pages.bars({name: (v["per_s"],) for name, v in told.items()}, "events a second")),
        ("Beside the processor time it takes itself", pages.table(shown, "{:,.0f}")),
    ]
    for system, ratios in report["ratios"].items():
        rows = {peer: {names[key]: ratio for key, ratio in row.items()} for peer, row in _over(ratios).items()}
        sections.append((f"{system}, over", pages.table(rows, "{:.2f}")))
    return sections


def _growth(report: Report) -> list[Section]:
    told = medians(report["runs"], "ward", *_PERCENTILES)
    sections = []
    for along, other, usual in (("patients", "measurements", 1), ("measurements", "patients", report["few"])):
        line = {name: ward[along] for name, ward in report["wards"].items() if ward[other] == usual}
        series = {key: sorted((x, told[name][key]) for name, x in line.items()) for key in _PERCENTILES}
        about = "patients in state" if along == "patients" else f"measurements of each of {usual:,} patients"
        sections.append((f"p50 and p99 in ms, by {about}", pages.lines(series, about, about)))
    memory = {
        name: {f"{where}, KiB": value / _KIB for where, value in values.items()}
        for name, values in report["bytes_per_patient"].items()
    }
    return [
        *sections,
        ("p50 (dark) and p99 (pale), ms", pages.bars(_pairs(told), "p50 and p99")),
        ("Memory a patient", pages.table(memory, "{:,.1f}")),
        (f"Over {report['few']:,} patients with one measurement each", pages.table(report["ratios"], "{:.2f}")),
    ]


def _mix(report: Report) -> list[Section]:
    sections = []
    for system, loads in report["medians"].items():
        for load, groups in loads.items():
            sections.append((f"{system}, {load}: p50 (dark) and p99 (pale), ms", pages.bars(_pairs(groups), load)))
    held = {
        f"{system}: {group}": values
        for system, groups in report["held_up_ms"].items()
        for group, values in groups.items()
    }
    return [*sections, ("Later than vitals far from notes and scans, ms", pages.table(held, "{:+.2f}"))]


def _scale(report: Report) -> list[Section]:
    columns = {
        "events/s": "events_per_s",
        "measurements a patient": "measurements_per_patient",
        "workers": "workers",
        "partitions": "partitions",
        "GiB in Redis": "redis_gib",
    }
    plan = {name: {shown: place[key] for shown, key in columns.items()} for name, place in report["places"].items()}
    waits = {name: (place["p50_ms"], place["p99_ms"]) for name, place in report["places"].items()}
    return [
        ("The plan: workers of one core each", pages.table(plan, "{:,.0f}")),
        ("Time in the worker: p50 (dark) and p99 (pale), ms", pages.bars(waits, "time in the worker")),
        ("What a micro-batch costs, ms of a core", pages.table({"": report["cost_ms"]}, "{:.2f}")),
    ]


def _engine(report: Report) -> list[Section]:
    ran = {name: result for name, result in report["backends"].items() if "refused" not in result}
    refused = [f"{name}: {r['refused']}" for name, r in report["backends"].items() if "refused" in r]

    def each(figure: Callable[[Report], Any]) -> dict[str, Any]:
        return {name: figure(result) for name, result in ran.items()}

    update = each(lambda r: (r["update_ms"]["1"], r["whole_ms"]))
    lag = each(lambda r: (r["loop_lag_ms"]["inferring"]["p50"], r["loop_lag_ms"]["inferring"]["p99"]))
    sections = [
        ("One vitals update (dark) and the whole model (pale), ms", pages.bars(update, "update and whole model")),
        ("Event loop late while a thread infers, ms: p50 (dark), p99 (pale)", pages.bars(lag, "loop lag")),
        (
            "Cold start, s: a new process until its first score",
            pages.table(each(lambda r: {"s": r["cold_start_s"]}), "{:.2f}"),
        ),
        (
            "Scored updates a second, by rows in a batch",
            pages.table(each(lambda r: r["scored_updates_per_s"]), "{:,.0f}"),
        ),
    ]
    for part in next(iter(ran.values()))["parts_ms"]:
        by_rows = each(lambda r, p=part: r["parts_ms"][p])
        sections.append((f"{part}: ms by rows in a batch", pages.table(by_rows, "{:.3f}")))
    sections.append(("Largest error against the reference", pages.table(each(lambda r: r["errors"]), "{:.1e}")))
    sections.append((f"What does not run here (model {report['model'][:12]})", pages.listing(refused)))
    return sections


_PAGES: Mapping[str, tuple[str, str, Callable[[Report], list[Section]]]] = {
    "latency": (
        "Wardwatch: latency beside bare clients",
        "From produced to received, every event another patient's and scored, medians of interleaved rounds; broker, Redis, "
        "producer and subscriber on the same cores. The comparators pass the event on and do nothing else.",
        _latency,
    ),
    "throughput": (
        "Wardwatch: saturation beside bare clients",
        "Events that wait, taken as fast as each system can, medians of interleaved rounds. Scored: every event another "
        "patient's, each scored. Catch-up: what waits of a patient is scored once. The comparators do nothing.",
        _throughput,
    ),
    "growth": (
        "Wardwatch: what a growing ward costs",
        "Produced to received as the patients in state grow, and their histories, medians of interleaved rounds; memory is "
        "what the worker and Redis grew by.",
        _growth,
    ),
    "mix": (
        "Wardwatch: vitals with notes and scans among them",
        "Produced to received by kind of event, medians of interleaved rounds. Bare: vitals, before anybody has a note or a "
        "scan; alone: vitals, after; mix: notes and scans coming in.",
        _mix,
    ),
    "scale": (
        "Wardwatch: a plan from measured costs",
        "The measured cost of a micro-batch put into a queueing simulation. Left out: brokers, Redis, the network, and that "
        "hashing spreads patients never quite evenly.",
        _scale,
    ),
    "engine": (
        "Wardwatch: the engine by itself",
        "Every backend in a process of its own, one thread.",
        _engine,
    ),
}
