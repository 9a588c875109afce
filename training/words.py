"""The report's sentences, made from its figures. A difference is called one only where its paired 95 % interval excludes 0,
and of too few patients none is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from training.bootstrap import FEW, TOO_FEW
from training.plots import short

Figures = Mapping[str, Any]
NAMES = {
    "auroc": "AUROC", "auprc": "AUPRC", "ece": "ECE", "brier": "Brier score", "f1": "F1", "score1": "score 1",
    "accuracy": "accuracy", "precision": "precision", "recall": "recall", "utility": "utility",
}  # fmt: skip


def figure(one: Figures) -> str:
    """`.856 [.842, .873]`"""
    return f"{short(one['value'])} [{short(one['low'])}, {short(one['high'])}]"


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`"""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def called(score: str) -> str:
    """A score's name in a sentence."""
    known = {"news2": "NEWS2", "qsofa": "qSOFA", "gru-d": "GRU-D"}
    return known.get(score, score.replace("-", " "))


def compared_with(score: str) -> str:
    """The same after `The model is above`: `itself without ages`, `one of only notes`."""
    if score.startswith("without "):
        return f"itself {score}"
    return f"one of {score}" if score.startswith("only ") else called(score)


def beside(other: str, difference: Figures, metrics: Sequence[str], subject: str = "The model") -> str:
    """`The model is above X in AUROC (.012 [.004, .020]) and not told apart from it in AUPRC (...)`; empty of too few."""
    by_verdict: dict[str, list[str]] = {}
    for metric in metrics:
        if metric in difference:
            gap = difference[metric]
            by_verdict.setdefault(gap["verdict"], []).append(f"{NAMES[metric]} ({figure(gap)})")
    said = []
    for verdict in ("above", "below", "not told apart"):
        if verdict in by_verdict:
            whom = compared_with(other) if not said else "it"
            words = f"{verdict} {whom}" if verdict != "not told apart" else f"not told apart from {whom}"
            said.append(f"{words} in {listed(by_verdict[verdict])}")
    return f"{subject} is {listed(said)}." if said else ""


def task(told: Figures) -> list[str]:
    """What a task's figures say of the model and of it beside each peer."""
    metrics = ["auroc", "auprc", "utility" if "utility" in told else "score1"]
    lines = [
        f"{told['n']:,} {told['unit']} of {told['patients']:,} patients, {told['positives']:,} with the event; "
        + ", ".join(f"{NAMES[m]} {figure(told[m])}" for m in (*metrics, "ece") if m in told)
        + "."
    ]
    if told["rarer"] < FEW:
        lines.append(too_few(told))
    lines += [beside(who, peer["difference"], metrics) for who, peer in told["peers"].items()]
    return [line for line in lines if line]


def too_few(told: Figures) -> str:
    """Why nothing is said of differences."""
    return (
        f"Only {told['rarer']} patients are of the rarer class: intervals from so few are narrower than the truth, and no "
        "difference is called one."
    )


def alarms(told: Figures) -> list[str]:
    """One sentence a recall."""
    lines = []
    for one in told["alarms"]["model"]:
        line = (
            f"At thresholds set on the other folds to alert {one['wanted_recall']:.0%} of septic stays in time, the model "
            f"alerts {figure(one['recall_of_stays'])} of them, with {figure(one['alerts_per_patient_day'])} alerts a "
            f"patient-day; {figure(one['stays_alerted_in_vain'])} of the other stays are alerted at least once"
        )
        if "lead_time_h" in one:
            low, high = one["lead_time_quartiles_h"]
            line += (
                f". In those alerted in time the first hour that counts comes {figure(one['lead_time_h'])} h before onset in "
                f"the median (quartiles {short(low)} and {short(high)} h; at most 12 count)"
            )
        lines.append(line + ".")
    return lines


def study(told: Figures, metrics: Sequence[str] = ("auroc", "auprc")) -> list[str]:
    """The first score beside each variant that it is told apart from, then beside the others at once."""
    if "scores" not in told:
        return [f"{told['n']} rows, {told['positives']} with the event: too few for figures."]
    if told["rarer"] < FEW:
        return [too_few(told)]
    first, *others = told["scores"]
    subject = "The model" if first == "model" else first[0].upper() + first[1:]
    lines, alike = [], []
    for who in others:
        gaps = told["scores"][who]["difference"]
        if any(gaps[metric]["verdict"] != "not told apart" for metric in metrics):
            lines.append(beside(who, gaps, metrics, subject))
        else:
            alike.append(called(who) if alike else compared_with(who))
    if alike:
        where = " nor in ".join(NAMES[metric] for metric in metrics)
        lines.append(f"{subject} is told apart neither in {where} from {listed(alike)}.")
    shares = [one for of_score in told.get("own_share", {}).values() for one in of_score]
    silent = shares.count(0.0)
    if silent:
        lines.append(
            f"In {silent} of the {len(shares)} models behind these figures validation patients bore out nothing of the network's "
            "own logits: there classical fits and the documents' evidence speak alone, and no part of the network can show."
        )
    return lines


def bars(told: Figures, kind: str) -> str:
    """What the subset and many-missing comparisons amount to, by AUROC."""
    below, all_ = [], 0
    for where, one in told.items():
        for who, score in list(one.get("scores", {}).items())[1:]:
            verdict = score["difference"]["auroc"]["verdict"]
            all_ += verdict != TOO_FEW
            if verdict == "below":
                below.append(f"{where} ({called(who)})")
    if not all_:
        return f"Too few patients of the rarer class for any comparison of {kind}."
    if not below:
        return f"In none of {all_} comparisons of {kind} is the fused model below by more than the interval of the difference."
    return f"The fused model is below by more than the interval in {len(below)} of {all_} comparisons of {kind}: {listed(below)}."


def damage(curves: Figures) -> list[str]:
    """Which damages change AUROC by more than the interval of the change, and which don't."""
    if curves["none"]["rarer"] < FEW:
        return [too_few(curves["none"])]
    down = [name for name, one in curves.items() if one.get("change", {}).get("auroc", {}).get("verdict") == "below"]
    up = [name for name, one in curves.items() if one.get("change", {}).get("auroc", {}).get("verdict") == "above"]
    rest = len(curves) - 1 - len(down) - len(up)
    lines = [
        f"Of {len(curves) - 1} kinds and degrees of damage, {len(down)} lower AUROC by more than the interval of the change, "
        f"{len(up)} raise it, {rest} do neither."
    ]
    worst = sorted(down, key=lambda name: curves[name]["change"]["auroc"]["value"])[:3]
    if worst:
        lines.append(
            "The largest losses: "
            + listed([f"{spoken(name)} ({figure(curves[name]['change']['auroc'])})" for name in worst])
            + "."
        )
    return lines


def spoken(name: str) -> str:
    """A damage's name in words."""
    kind, *rest = name.split("/")
    if kind == "only":
        return f"only {rest[0].replace('+', ' and ')}"
    if kind == "missing":
        return f"{float(rest[1]):.0%} of {rest[0]} missing"
    if rest == ["diagnoses", "masked"]:
        return "diagnosis words masked"
    units = {
        "blur": "blurred by {} px", "noise": "noise of {}", "resolution": "shrunk to {0} x {0}",
        "kept": "first {} kept", "typos": "{} of words misspelt",
    }  # fmt: skip
    return f"{kind} {units[rest[0]].format(rest[1])}"
