"""The figures that README quotes, made from the committed results and the shipped model's card:
`python -m streaming.readme_figures` (`make figures`).
"""

import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from streaming.bench_page import medians, medians_by_rate

Read = Callable[[str], Mapping[str, Any]]
"""A JSON file by its path in the repository, without its ending."""
WIDTH = 118
START, END = "<!-- figures: written by `make figures` -->\n", "<!-- end of figures -->\n"
_SYSTEMS = {
    "wardwatch": "Wardwatch",
    "faust": "bare Faust agent",
    "aiokafka": "bare aiokafka loop",
    "quixstreams": "Quix Streams",
}
_TASKS = {
    "physionet2012.in-hospital-mortality": "PhysioNet 2012: death in hospital, from 48 h",
    "physionet2019.sepsis-6h": "PhysioNet 2019: sepsis within 6 h, hourly",
    "eicu.in-hospital-mortality": "eICU: death in hospital, from 24 h",
    "eicu.critical-course": "eICU: critical course, from 24 h",
    "covid.critical-course": "COVID radiographs and notes: critical course",
    "luna16.lung-nodule": "LUNA16: nodule in a patch of a chest CT",
}
_CROPS = "luna16.lung-nodule"
"""No patients are known of these."""
_OWN_RUNS = tuple(f"benchmarks/results/crossval_{name}" for name in ("eicu", "eicu_physionet2012", "covid"))
"""Cross-validations of some data sets beside the peers that read documents."""
_PEERS = {
    "news2": "NEWS2",
    "qsofa": "qSOFA",
    "gru-d": "GRU-D",
    "notes_logistic": "logistic regression on notes",
    "scans_logistic": "logistic regression on scans",
}


def block(root: Path) -> str:
    """Markdown of the figures in this repository's results, as it stands in README."""
    parts = (_latency, _load, _plan, _model)
    return "\n".join(part(lambda name: orjson.loads((root / f"{name}.json").read_bytes())) for part in parts)


def written(readme: str, root: Path) -> str:
    """README's text with its figures as the results have them."""
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}{block(root)}{END}{after}"


def _latency(read: Read) -> str:
    report = read("benchmarks/latency")
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
    pace, growth, engine = read("benchmarks/throughput"), read("benchmarks/growth"), read("benchmarks/engine")
    told, ratios = medians(pace["runs"], "system", "per_s"), pace["ratios"]
    wards, held = growth["wards"], growth["bytes_per_patient"]
    most = max(wards, key=lambda name: wards[name]["patients"])
    longest = max(wards, key=lambda name: wards[name]["measurements"])
    base = next(name for name in wards if wards[name] == {"patients": growth["few"], "measurements": 1})
    of_base = medians(growth["runs"], "ward", "p50", "p99")[base]
    one, two = (
        [run["per_s"] for run in pace["runs"] if run["system"].startswith(f"{n} worker")] for n in ("one", "two")
    )
    times = [both / alone for alone, both in zip(one, two, strict=True)]

    def over(ward: str) -> str:
        return f"{growth['ratios'][ward]['p50']:.2f} and {growth['ratios'][ward]['p99']:.2f}"

    def kib(ward: str) -> str:
        return (
            f"{held[ward]['worker'] / 1024:,.1f} KiB in the worker and {held[ward]['redis'] / 1024:,.1f} KiB in Redis"
        )

    onnx = engine["backends"]["onnx"]
    return _wrapped(
        f"One worker scores {told['wardwatch scored']['per_s']:,.0f} events/s, each another patient's "
        f"({ratios['wardwatch scored']['per_s_vs_faust']:.2f} times what a bare Faust agent passes on), and catches up at "
        f"{told['wardwatch catch-up']['per_s']:,.0f} ({ratios['wardwatch catch-up']['per_s_vs_faust']:.1f} times). Two workers "
        f"with a fixed share of a core each carry {median(times):.2f} times what one does, in the median of {len(times)} "
        f"interleaved rounds. A vitals update costs {onnx['update_ms']['1']:.2f} ms of inference, "
        f"1/{1 / onnx['update_of_whole']:.0f} of the whole model."
    ) + "\n" + _wrapped(
        f"With {most} in state p50 and p99, at {growth['rate']} events/s, are {over(most)} times those with {growth['few']:,}, "
        f"which in that run are {of_base['p50']:.1f} / {of_base['p99']:.1f} ms; a patient takes "
        f"{kib(most)}. With {wards[longest]['measurements']:,} measurements of each patient, as six signals at 1 Hz leave in "
        f"two days, they are {over(longest)} times those with one, and a patient takes {kib(longest)}."
    )  # fmt: skip


def _plan(read: Read) -> str:
    rows = [
        [
            name,
            f"{place['events_per_s']:,.0f}",
            f"{place['workers']:,}",
            f"{place['partitions']:,}",
            f"{place['p50_ms']:.0f} / {place['p99_ms']:.0f}",
            f"{place['redis_gib']:,.1f}",
        ]
        for name, place in read("benchmarks/scale")["places"].items()
    ]
    about = (
        "Those costs in a queueing simulation, workers of one core each, each patient with two days of history. Brokers, "
        "Redis' own load and the network are left out; no GPU is planned with, and what one would add was never measured."
    )
    return (
        _wrapped(about)
        + "\n"
        + _table(["", "events/s", "workers", "partitions", "ms in the worker, p50 / p99", "GiB in Redis"], rows)
    )


def _model(read: Read) -> str:
    paper = read("benchmarks/paper/paper")
    rows = []
    for name, shown in _TASKS.items():
        told = paper["tasks"][name]
        _, beside = max(_peers(read, name))
        news2 = _value(told["peers"]["news2"]["auroc"]) if "news2" in told["peers"] else ""
        count = f"{told['n']:,} crops" if name == _CROPS else f"{told['patients']:,}"
        rows.append([shown, count, _interval(told["auroc"]), _interval(told["auprc"]), beside, news2])
    head = ["", "patients", "AUROC", "AUPRC", "best peer, AUROC / AUPRC", "NEWS2, AUROC"]
    about = (
        f"The reference recipe on patients that it did not learn from, {paper['about']['folds']} folds, bootstrap 95 % intervals "
        "by patient (of LUNA16 by stretches of its list about as long as a scan; a scan at a border may be in two folds). The "
        "best peer is the best by AUROC of all that `benchmarks/` holds, rules among them; † is of another run (`results/`), "
        "with folds of its own:"
    )
    share = ", ".join(f"{condition} {one:g}" for condition, one in read("models/reference/card")["own_share"].items())
    own = (
        f"Of the network's own logits the shipped model keeps this share: {share}. What is at 0 is decided by classical fits and "
        "the documents' evidence alone."
    )
    return f"{_wrapped(about)}\n{_table(head, rows)}\n{_wrapped(own)}"


def _peers(read: Read, task: str) -> list[tuple[float, str]]:
    """AUROC, and as README shows it, of every peer that was measured on a task."""
    runs = [(read("benchmarks/paper/paper")["tasks"][task]["peers"], "")]
    if task == _CROPS:
        runs.append((read("benchmarks/results/crossval_luna16")["tasks"]["blocks"], " †"))
    runs += [(read(run)["tasks"].get(task, {}).get("peers", {}), " †") for run in _OWN_RUNS]
    return [
        (told["auroc"]["value"], f"{_called(who)} {_value(told['auroc'])} / {_value(told['auprc'])}{mark}")
        for peers, mark in runs
        for who, told in peers.items()
        if not who.startswith("model")
    ]


def _called(peer: str) -> str:
    return _PEERS.get(peer, peer.replace("-", " ").replace("_", " "))


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
    readme.write_text(written(text, root), encoding="utf-8")


if __name__ == "__main__":
    main()
