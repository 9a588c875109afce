"""The figures that README quotes, made from the committed results: `python -m streaming.readme_figures` (`make figures`)."""

import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from streaming.bench_page import medians, medians_by_rate

Read = Callable[[str], Mapping[str, Any]]
"""A result by its name."""
WIDTH = 118
START, END = "<!-- figures: written by `make figures` -->\n", "<!-- end of figures -->\n"
_SYSTEMS = {
    "wardwatch": "Wardwatch",
    "faust": "bare Faust agent",
    "aiokafka": "bare aiokafka loop",
    "quixstreams": "Quix Streams",
}
_SCORED = (
    (
        "crossval",
        "physionet2012.in-hospital-mortality",
        "gradient-boosting",
        "PhysioNet 2012: death in hospital, from 48 h",
    ),
    ("crossval", "physionet2019.sepsis-6h", "gradient-boosting", "PhysioNet 2019: sepsis within 6 h, hourly"),
    ("crossval_eicu_physionet2012", "eicu.in-hospital-mortality", "late_fusion", "eICU: death in hospital, from 24 h"),
    ("crossval_eicu_physionet2012", "eicu.critical-course", "late_fusion", "eICU: critical course, from 24 h"),
    ("crossval_covid", "covid.critical-course", "late_fusion", "COVID radiographs and notes: critical course"),
    ("crossval_luna16", "blocks", "logistic_regression", "LUNA16: nodule in a patch of a chest CT"),
)
"""Result file, task, the peer that reads the same, and what README calls it."""


def block(results: Path) -> str:
    """Markdown of the figures in this folder of results, as it stands in README."""
    parts = (_latency, _load, _plan, _model)
    return "\n".join(part(lambda name: orjson.loads((results / f"{name}.json").read_bytes())) for part in parts)


def written(readme: str, results: Path) -> str:
    """README's text with its figures as the results have them."""
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}{block(results)}{END}{after}"


def _latency(read: Read) -> str:
    report = read("latency")
    rows = []
    for rate, told in medians_by_rate(report).items():
        ratio = report["ratios"][str(rate)]
        cells = [f"{told[system]['p50']:.1f} / {told[system]['p99']:.1f}" for system in _SYSTEMS]
        rows.append([f"{rate:,}", *cells, f"{ratio['p50_vs_faust']:.2f} / {ratio['p99_vs_faust']:.2f}"])
    machine = report["machine"]
    about = (
        f"From produced to received, ms, p50 / p99, on {machine['measured_at'][:10]}: {machine['cores']} shared cores carry "
        "broker, Redis, producer, subscriber and worker. Wardwatch scores every event, with every guarantee on; the others "
        "pass it on and do nothing."
    )
    return _wrapped(about) + "\n" + _table(["events/s", *_SYSTEMS.values(), "Wardwatch over Faust"], rows)


def _load(read: Read) -> str:
    pace, growth, engine = read("throughput"), read("growth"), read("engine")
    told, ratios = medians(pace["runs"], "system", "per_s"), pace["ratios"]
    many, memory = growth["ratios"]["many patients"], growth["bytes_per_patient"]["many patients"]
    onnx = engine["backends"]["onnx"]
    return _wrapped(
        f"One worker scores {told['wardwatch scored']['per_s']:,.0f} events/s, each another patient's "
        f"({ratios['wardwatch scored']['per_s_vs_faust']:.2f} times what a bare Faust agent passes on), and catches up at "
        f"{told['wardwatch catch-up']['per_s']:,.0f} ({ratios['wardwatch catch-up']['per_s_vs_faust']:.1f} times). Two workers "
        f"with a fixed share of a core each carry {ratios['two workers']['per_s_vs_one']:.2f} times what one does. With "
        f"{growth['patients']:,} patients in state p50 and p99 are {many['p50_vs_100_patients']:.2f} and "
        f"{many['p99_vs_100_patients']:.2f} times those with 100, and a patient takes {memory['worker'] / 1024:.1f} KiB in the "
        f"worker and {memory['redis'] / 1024:.1f} KiB in Redis. A vitals update costs {onnx['update_ms']['1']:.2f} ms of "
        f"inference, 1/{1 / onnx['update_of_whole']:.0f} of the whole model."
    )


def _plan(read: Read) -> str:
    rows = [
        [
            name,
            f"{place['events_per_s']:,.0f}",
            f"{place['workers']:,}",
            f"{place['partitions']:,}",
            f"{place['p50_ms']:.0f} / {place['p99_ms']:.0f}",
        ]
        for name, place in read("scale")["places"].items()
    ]
    about = (
        "Those costs in a queueing simulation, workers of one core each. Brokers, Redis and the network are left out; no "
        "GPU is planned with, and what one would add was never measured."
    )
    return (
        _wrapped(about) + "\n" + _table(["", "events/s", "workers", "partitions", "ms in the worker, p50 / p99"], rows)
    )


def _model(read: Read) -> str:
    rows = []
    for name, task, peer, shown in _SCORED:
        found = read(f"results/{name}")["tasks"][task]
        told, peers = (found["model"], found) if "model" in found else (found, found["peers"])
        other = f"{peer.replace('_', ' ').replace('-', ' ')} {_value(peers[peer]['auroc'])} / {_value(peers[peer]['auprc'])}"
        news2 = _value(peers["news2"]["auroc"]) if "news2" in peers else ""
        patients = f"{told['patients']:,}" if "patients" in told else ""
        rows.append([shown, patients, _interval(told["auroc"]), _interval(told["auprc"]), other, news2])
    head = ["", "patients", "AUROC", "AUPRC", "peer on the same folds", "NEWS2, AUROC"]
    about = "The reference recipe on patients that it did not learn from, five folds, bootstrap 95 % intervals:"
    return _wrapped(about) + "\n" + _table(head, rows)


def _value(told: Mapping[str, float]) -> str:
    return f"{told['value']:.3f}"


def _interval(told: Mapping[str, float]) -> str:
    return f"{_value(told)} [{told['low']:.3f}, {told['high']:.3f}]"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Writes the figures into README."""
    root = Path(__file__).parents[1]
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    if START not in text or END not in text:
        sys.exit("README has no place for figures")
    readme.write_text(written(text, root / "benchmarks"), encoding="utf-8")


if __name__ == "__main__":
    main()
