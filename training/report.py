"""The report: `paper.json` holds every figure, `paper.html` shows them on one page without scripts or other files.

Owns sections and markup; sentences come from `words.py`, plots from `plots.py`. What was not measured is said to be
absent. Nothing here computes a figure.
"""

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson

from models.window import MODALITIES
from training import plots, words
from training.bootstrap import FEW, TOO_FEW
from training.plots import Point
from training.studies import PROTOCOL

Figures = Mapping[str, Any]
_COLUMNS = ("auroc", "auprc", "accuracy", "precision", "recall", "f1", "score1", "utility", "brier", "ece")
_TITLES = {
    "fusions": "The four fusions",
    PROTOCOL: "The four fusions by the paper's protocol, without classical fits",
    "single modalities": "One modality alone, and late fusion",
    "pairs of modalities": "Two modalities",
    "ablations": "Ablations",
    "subsets": "The fused model on a subset, beside models trained on one modality of it",
    "many missing": "Most of a modality missing, beside the model trained without it",
}


def write(body: Figures, out: Path) -> None:
    """Both files into the folder."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "paper.json").write_bytes(orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")
    (out / "paper.html").write_text(page(body), encoding="utf-8")


def page(body: Figures) -> str:
    """The whole page."""
    tasks = body.get("tasks", {})
    sections: list[tuple[str, str, str]] = [("summary", "Every task at a glance", _summary(tasks))]
    sections += [(name, _task_name(name), _task(told)) for name, told in tasks.items()]
    studies, robustness = body.get("studies", {}), body.get("robustness", {})
    if studies:
        sections += [
            (f"study-{name}", f"Parts of the model: {_task_name(name)}", _study(told)) for name, told in studies.items()
        ]
    else:
        sections.append(
            ("studies", "Parts of the model", _absent("Fusions, single modalities and ablations were not measured."))
        )
    if robustness:
        sections += [
            (f"robust-{name}", f"Missing and spoilt data: {_task_name(name)}", _robust(told))
            for name, told in robustness.items()
        ]
    else:
        sections.append(
            ("robustness", "Missing and spoilt data", _absent("Missing and spoilt data were not measured."))
        )
    sections.append(("method", "How it was measured", _method(body["about"])))
    links = "".join(f'<a href="#{escape(key)}">{escape(title)}</a>' for key, title, _ in sections)
    parts = "".join(f'<h2 id="{escape(key)}">{escape(title)}</h2>{markup}' for key, title, markup in sections)
    css = files("training").joinpath("page.css").read_text(encoding="utf-8")
    quick = (
        '<p class="warn">A quick run on a few stays, to see that the report can be made: its figures mean nothing.</p>'
        if body["about"]["quick"]
        else ""
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Wardwatch: the model, measured</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{css}</style></head><body><main>'
        "<h1>Wardwatch: the model, measured</h1>"
        f'<p class="soft">Recipe {escape(body["about"]["recipe"]["name"])}, {body["about"]["folds"]}-fold cross-validation by '
        f"patient, bootstrap 95 % intervals by patient ({body['about']['rounds']} draws).</p>{quick}<nav>{links}</nav>{parts}"
        "</main></body></html>\n"
    )


def _summary(tasks: Figures) -> str:
    if not tasks:
        return _absent("Cross-validation has not run.")
    rows, points = [], []
    for name, told in tasks.items():
        if "auroc" not in told:
            rows.append(([_task_name(name), f"{told['positives']:,} of {told['n']:,}", *["–"] * 4], False))
            continue
        last = "utility" if "utility" in told else "score1"
        cells = [_figure(told[metric]) for metric in ("auroc", "auprc", last, "ece")]
        rows.append(([_task_name(name), f"{told['positives']:,} of {told['n']:,}", *cells], False))
        points.append(Point(**told["auroc"], label=_task_name(name), strong=True))
        points += [Point(**peer["auroc"], label=words.called(who)) for who, peer in told["peers"].items()]
    head = ("task", "with the event", "AUROC", "AUPRC", "score 1, or utility if hourly", "ECE")
    plot = _plot(
        plots.forest(points, "AUROC of the model and of its peers, by task"),
        "AUROC of the model (blue) and of its peers.",
    )
    return _table(head, rows) + plot


def _task(told: Figures) -> str:
    if "auroc" not in told:
        return _absent(
            f"{told['n']} {told['unit']}, {told['positives']} with the event: one class only, so no figures."
        )
    columns = [c for c in _COLUMNS if c in told]
    rows = [(["model", *(_figure(told[c]) for c in columns)], True)]
    metrics = ("auroc", "auprc", "utility" if "utility" in told else "score1")
    for who, peer in told["peers"].items():
        cells = [_beside(peer, c) if c in metrics else _figure(peer[c]) if c in peer else "–" for c in columns]
        rows.append(([words.called(who), *cells], False))
    gaps = [
        Point(
            **{k: peer["difference"][m][k] for k in ("value", "low", "high")},
            label=f"{words.called(who)}, {words.NAMES[m]}",
        )
        for who, peer in told["peers"].items()
        for m in metrics
        if m in peer["difference"] and peer["difference"][m]["verdict"] != TOO_FEW
    ]
    text = _paragraphs(words.task(told))
    if not told["peers"]:
        text += _absent("No peer was measured on this task.")
    parts = [text, _table(["", *(words.NAMES[c] for c in columns)], rows)]
    parts.append('<p class="soft">Under each peer\'s figure: the model minus the peer, paired by patient.</p>')
    parts.append(
        _plot(
            plots.forest(gaps, "Model minus peer, paired", zero=0.0),
            "The model minus each peer: right of the line, the model is above.",
        )
    )
    slices = [
        Point(**one["auroc"], label=f"{name} ({one['positives']:,})")
        for name, one in told["slices"].items()
        if "auroc" in one
    ]
    few = len(told["slices"]) - len(slices)
    note = f" {few} slices with fewer than 10 patients of either class are left out." if few else ""
    by_slice = _plot(
        plots.forest(slices, "AUROC by age, sex and site"),
        f"AUROC by age, sex and site; {told['unit']} with the event in brackets.{note}",
    )
    bins = [Point(x=one["told"], **one["events"]) for one in told["calibration"]]
    parts.append(
        _side_by_side([by_slice, _plot(plots.calibration(bins, "Calibration"), "Calibration in bins of equal count.")])
    )
    if "alarms" in told:
        parts.append("<h3>At the bedside</h3>" + _paragraphs(words.alarms(told)) + _alarms(told["alarms"]))
    parts.append("<h3>Where it cannot tell</h3>" + _abstention(told["abstention"], told["unit"]))
    return "".join(parts)


def _alarms(told: Figures) -> str:
    head = (
        "score",
        "recall wanted",
        "stays alerted in time",
        "alerts a patient-day",
        "others alerted in vain",
        "lead time, h",
    )
    rows = []
    for who, many in told.items():
        for one in many:
            cells = [_figure(one[k]) for k in ("recall_of_stays", "alerts_per_patient_day", "stays_alerted_in_vain")]
            lead = _figure(one["lead_time_h"]) if "lead_time_h" in one else "–"
            rows.append(([words.called(who), f"{one['wanted_recall']:.0%}", *cells, lead], who == "model"))
    return _table(head, rows)


def _abstention(told: Sequence[Figures], unit: str) -> str:
    head = (
        "level",
        f"{unit} with the event covered",
        f"other {unit} covered",
        f"{unit} that abstain",
        f"right, of {unit} where it tells",
    )
    keys = ("coverage_event", "coverage_no_event", "abstains", "accuracy_where_it_tells")
    rows = [([f"{one['level']:.0%}", *(_figure(one[k]) if k in one else "–" for k in keys)], False) for one in told]
    return (
        "<p>Class-conditional conformal sets, cut on the other folds to hold the true outcome for that share of patients with "
        "the event, and for that share of those without, one of their rows drawn for each. The table shows what they held, "
        f"and counts {unit}, not patients. Where the set is not exactly one outcome the model abstains.</p>"
        + _table(head, rows)
    )


def _study(told: Figures) -> str:
    parts = []
    for name in ("fusions", PROTOCOL, "single modalities", "pairs of modalities", "ablations"):
        if name in told:
            parts.append(f"<h3>{_TITLES[name]}</h3>" + _compared(told[name]) + _paragraphs(words.study(told[name])))
    for name, kind in (("subsets", "subsets of modalities"), ("many missing", "missing modalities")):
        if name in told:
            parts.append(f"<h3>{_TITLES[name]}</h3><p>{escape(words.bars(told[name], kind))}</p>")
            for where, one in told[name].items():
                parts.append(
                    f'<p class="soft">{escape(where)}: {one["n"]:,} stays, {one["positives"]:,} with the event</p>'
                    + _compared(one)
                )
    return "".join(parts) or _absent("Nothing was compared on this task.")


def _compared(told: Figures) -> str:
    if "scores" not in told:
        return _absent(f"{told['n']} rows, {told['positives']} with the event: one class only.")
    columns = [c for c in ("auroc", "auprc", "brier", "ece") if any(c in one for one in told["scores"].values())]
    rows = []
    for number, (who, one) in enumerate(told["scores"].items()):
        cells = [_figure(one[c]) if number == 0 else _beside(one, c) for c in columns]
        rows.append(([words.called(who), *cells], number == 0))
    points = [
        Point(**one["auroc"], label=words.called(who), strong=number == 0)
        for number, (who, one) in enumerate(told["scores"].items())
    ]
    return _table(["", *(words.NAMES[c] for c in columns)], rows) + _plot(plots.forest(points, "AUROC"), "AUROC.")


def _robust(told: Figures) -> str:
    def at(names: Mapping[float, str], metric: str = "auroc") -> list[Point]:
        return [
            Point(x=x, **told[name][metric])
            for x, name in sorted(names.items())
            if name in told and metric in told[name]
        ]

    none = {0.0: "none"}
    parts = [_paragraphs(words.damage(told))]
    missing = [kind for kind in MODALITIES if any(name.startswith(f"missing/{kind}/") for name in told)]
    drawn = []
    for metric in ("auroc", "auprc", "ece"):
        series = []
        for kind in missing:
            rates = none | {float(n.split("/")[2]): n for n in told if n.startswith(f"missing/{kind}/")}
            rest = "+".join(other for other in missing if other != kind)
            series.append((kind, at(rates | {1.0: f"only/{rest}"}, metric)))
        title = f"{words.NAMES[metric]} as data goes missing"
        drawn.append(_plot(plots.curves(series, title, "share missing", percent_x=True), f"{title}."))
    noise: list[tuple[str, str, str, float]] = [
        ("scans/blur/", "scans blurred", "radius in pixels", 0.0), ("scans/noise/", "noise on scans", "standard deviation", 0.0),
        ("scans/resolution/", "scans of low resolution", "pixels a side", 224.0),
        ("notes/kept/", "notes cut short", "share kept", 1.0), ("notes/typos/", "misspelt notes", "share of words", 0.0),
    ]  # fmt: skip
    for prefix, name, x_label, whole in noise:
        found = {float(n.removeprefix(prefix)): n for n in told if n.startswith(prefix)}
        if found:
            series = [(name, at({whole: "none"} | found))]
            drawn.append(_plot(plots.curves(series, f"AUROC: {name}", x_label), f"AUROC: {name}."))
    parts.append(_side_by_side(drawn))
    parts.append('<p class="soft">Bands are 95 % intervals. All of a modality missing is the model on the others.</p>')
    listed = [name for name in told if name == "none" or name.startswith("only/") or name.endswith("/masked")]
    rows = []
    for name in listed:
        one = told[name]
        label = "whole" if name == "none" else words.spoken(name)
        change = one.get("change", {})
        cells = [_figure(one[m]) + _change(change.get(m), m) for m in ("auroc", "auprc", "ece")]
        rows.append(([label, f"{one['without_data']:,}", *cells], name == "none"))
    return "".join(parts) + _table(("data", "rows left with none", "AUROC", "AUPRC", "ECE"), rows)


def _method(about: Figures) -> str:
    sources = ", ".join(f"{name} ({digest[:12]})" for name, digest in about["data_sha256"].items())
    recipe = ", ".join(f"{key} {value}" for key, value in about["recipe"].items() if key not in ("name", "sources"))
    versions = ", ".join(f"{key} {value}" for key, value in about["versions"].items())
    return _paragraphs(
        [
            "Every data set is read into the live system's messages and through its reducer; a patient is in one fold only, and "
            "every fold has its share of each outcome. The "
            "model and every peer that learns do so from the other folds' patients of all data sets that teach a condition, and "
            "are asked about the fold that they did not see; early stopping, calibration and every other choice inside a fold "
            "sees its training patients only.",
            "Peers do not get all that the model gets: gradient boosting, logistic regression and GRU-D know no notes and no "
            "scans, of a stay its last snapshot alone, and nothing of who "
            "left hospital alive and died within 90 days of admission, which the model is taught as part of a death. NEWS2 "
            "and qSOFA learn nothing.",
            "Parts of the model are measured on the data sets that have several modalities, and learn from those alone: there "
            "the model is not the one of the other sections.",
            "Thresholds (F1, score 1, utility, recall) and conformal cuts are chosen on the other folds' out-of-fold scores. "
            "Those scores came from models that had seen the measured fold's patients, which leaves a slight optimism.",
            "Intervals are percentiles of a bootstrap that draws whole patients; ECE's draws are recentred on its value, since "
            "drawing makes gaps larger. A difference is paired: the same draws on both scores. Intervals are not corrected for "
            "the number of comparisons. They say how far other patients of the same kind would move a figure, not what "
            "training again with another seed would.",
            "Hourly tasks count every hour at which something is known of the patient, here and where data is taken away. "
            "Where a figure needs a probability and the score is a sum of points, it is left out.",
            f"Intervals of slices are of {about['slice_rounds']} draws. Missing and spoilt data were measured on the first "
            f"{about['damaged']:,} stays of a data set, where it has so many, with {about['damaged_rounds']} draws. Where "
            f"fewer than {FEW} patients are of the rarer class no difference is called one.",
            "LUNA16 does not tell whose a crop is: there a crop counts as a stay, a stretch of its list about as long as a "
            "scan as a patient, and a scan at a border may be in two folds.",
        ]
    ) + (
        f'<p class="soft">Data, by the beginning of its SHA-256: {escape(sources)}. Recipe: {escape(recipe)}. '
        f"Seed {about['seed']}. Studies: {about['study_folds']} folds. {escape(versions)}.</p>"
    )


def _task_name(name: str) -> str:
    source, condition = name.split(".", 1)
    known = {"physionet2012": "PhysioNet 2012", "physionet2019": "PhysioNet 2019", "eicu": "eICU", "covid": "COVID chest X-rays",
             "luna16": "LUNA16"}  # fmt: skip
    return f"{known.get(source, source)}: {condition.replace('-', ' ').replace('sepsis 6h', 'sepsis within 6 h')}"


def _figure(one: Figures) -> str:
    return f"{plots.short(one['value'])}<small>{plots.short(one['low'])} to {plots.short(one['high'])}</small>"


def _beside(one: Figures, metric: str) -> str:
    if metric not in one:
        return "–"
    return _figure(one[metric]) + _change(one["difference"].get(metric), metric)


def _change(gap: Figures | None, metric: str) -> str:
    """Coloured only where it is told apart and larger means better."""
    if gap is None:
        return ""
    kind = (
        f' class="{gap["verdict"]}"' if gap["verdict"] in ("above", "below") and metric not in ("ece", "brier") else ""
    )
    told = f"{gap['value']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]".replace("-", "−")
    return f"<small{kind}>{told}</small>"


def _table(head: Sequence[str], rows: Sequence[tuple[Sequence[str], bool]]) -> str:
    """Cells are markup already; the first column is text."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = ""
    for (first, *others), strong in rows:
        lines += f"<tr{' class=strong' if strong else ''}><td>{escape(first)}</td>"
        lines += "".join(f"<td>{cell}</td>" for cell in others) + "</tr>"
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def _plot(svg: str, caption: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>" if svg else ""


def _side_by_side(figures: Sequence[str]) -> str:
    return f'<div class="pair">{"".join(figures)}</div>' if any(figures) else ""


def _paragraphs(lines: Sequence[str]) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _absent(text: str) -> str:
    return f'<p class="absent">{escape(text)}</p>'
