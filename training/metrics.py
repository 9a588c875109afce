"""Figures of a score with bootstrap 95 % intervals by patient, and which rows count for which task.

Ranked figures (AUROC, AUPRC, ECE, Brier) of all resamples come from one sort: a resample is a weight a patient, and
each figure a sum of cumulative weights. Owns figures of single rows; leaves thresholds to `thresholds.py` and alarms
over a stay to `alarms.py`.
Shapes: N rows, R resamples.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from models.conditions import CONDITIONS
from training.bootstrap import F64, ROUNDS, Resample, figure, resample
from training.dataset import Examples

Array = NDArray[np.floating]
BINS = 10
RANKED = ("auroc", "auprc", "brier", "ece")
AT_THRESHOLD = ("accuracy", "precision", "recall", "f1", "score1")


def ranked(label: Array, probability: Array, sample: Resample) -> dict[str, F64]:
    """Draws of AUROC (ties count half), AUPRC (average precision), Brier and ECE (ten bins of equal weight, Naeini et
    al. 2015). A resample without one of the two classes is NaN in AUROC and AUPRC.
    """
    order = np.argsort(probability, kind="stable")
    y, p = label[order].astype(np.float64), probability[order].astype(np.float64)
    patient = sample.patient[order]
    ends = np.append(np.flatnonzero(np.diff(p)), len(p) - 1)  # last row of each run of ties
    found: dict[str, list[F64]] = {name: [] for name in RANKED}
    for counts in sample.chunks():
        weight = counts[:, patient].astype(np.float64)
        all_RN = np.cumsum(weight, 1)
        hit_RN = np.cumsum(weight * y, 1)
        told_RN = np.cumsum(weight * p, 1)
        auroc, auprc = _areas(all_RN[:, ends], hit_RN[:, ends])
        found["auroc"].append(auroc)
        found["auprc"].append(auprc)
        found["ece"].append(_ece(weight, all_RN, hit_RN, told_RN))
        found["brier"].append((weight @ (p - y) ** 2) / all_RN[:, -1])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _areas(all_RG: F64, hit_RG: F64) -> tuple[F64, F64]:
    """AUROC and average precision from cumulative weights, ascending in score, at the ends of runs of ties."""
    total, hits = all_RG[:, -1:], hit_RG[:, -1:]
    miss_RG = all_RG - hit_RG
    new_hits = np.diff(hit_RG, axis=1, prepend=0)
    misses_before = np.concatenate([np.zeros_like(total), miss_RG[:, :-1]], 1)
    hits_before = hit_RG - new_hits
    all_before = np.concatenate([np.zeros_like(total), all_RG[:, :-1]], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        below = (new_hits * (misses_before + (miss_RG - misses_before) / 2)).sum(1)
        auroc = below / (hits * (total - hits))[:, 0]
        precision = np.where(total > all_before, (hits - hits_before) / (total - all_before), 0.0)
        auprc = (new_hits * precision).sum(1) / hits[:, 0]
    return auroc, np.where(np.isfinite(auroc), auprc, np.nan)


def _ece(weight: F64, all_RN: F64, hit_RN: F64, told_RN: F64) -> F64:
    found = np.empty(len(weight))
    for row in range(len(weight)):
        middle = all_RN[row] - weight[row] / 2
        last = np.searchsorted(middle, all_RN[row, -1] * np.arange(1, BINS) / BINS) - 1
        last = np.append(np.maximum(last, -1), len(middle) - 1)

        def gaps(cumulative: F64, last: NDArray[np.intp] = last) -> F64:
            return np.diff(np.append(0.0, np.where(last >= 0, cumulative[last], 0.0)))

        found[row] = np.abs(gaps(hit_RN[row]) - gaps(told_RN[row])).sum() / all_RN[row, -1]
    return found


def ece(label: Array, probability: Array) -> float:
    """Expected calibration error over ten bins of equal count."""
    alone = Resample(np.arange(len(label)), np.ones((1, len(label)), np.uint16))
    return float(ranked(label, probability, alone)["ece"][0])


def at_threshold(label: Array, called: NDArray[np.bool_], sample: Resample) -> dict[str, F64]:
    """Draws of accuracy, precision, recall, F1 and the 2012 challenge's score 1 (the lesser of recall and precision)
    when the rows `called` are called positive."""
    truth = label == 1
    hit, alarms, events, right, all_ = sample.totals(
        np.stack([called & truth, called, truth, called == truth, np.ones_like(called)], 1).astype(np.float64)
    ).T
    precision, recall = hit / np.maximum(1, alarms), hit / np.maximum(1e-12, events)
    return {
        "accuracy": right / np.maximum(1e-12, all_),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / np.maximum(1e-12, precision + recall),
        "score1": np.minimum(precision, recall),
    }


def figures(draws: Mapping[str, F64]) -> dict[str, dict[str, float]]:
    """Each metric's draws as {"value", "low", "high"}."""
    return {name: figure(values, centred=name == "ece") for name, values in draws.items()}


def evaluate(
    label: Array,
    probability: Array,
    cluster: NDArray[np.str_] | None = None,
    called: NDArray[np.bool_] | None = None,
    rounds: int = ROUNDS,
) -> dict[str, object]:
    """`{metric: {"value", "low", "high"}, "n", "positives"}`; without a cluster each row is a patient of its own.

    With rows `called` positive also what follows from that. A task of one class has no metrics.
    """
    found: dict[str, object] = {"n": len(label), "positives": int(label.sum())}
    if not 0 < label.sum() < len(label):
        return found
    sample = resample(np.arange(len(label)).astype(str) if cluster is None else cluster, rounds)
    found |= figures(ranked(label, probability, sample))
    if called is not None:
        found |= figures(at_threshold(label, called, sample))
    return found


def calibration(label: Array, probability: Array, sample: Resample, bins: int = BINS) -> list[dict[str, object]]:
    """Bins of equal count, ascending: mean probability told, share of events with its interval, rows."""
    found: list[dict[str, object]] = []
    for part in np.array_split(np.argsort(probability, kind="stable"), bins):
        if len(part):
            rows, hits = sample.take(part).totals(np.stack([np.ones(len(part)), label[part]], 1)).T
            with np.errstate(invalid="ignore", divide="ignore"):
                share = figure(hits / rows)
            found.append({"told": float(probability[part].mean()), "events": share, "n": len(part)})
    return found


def tasks(examples: Examples, rows: NDArray[np.int64]) -> Iterator[tuple[str, int, NDArray[np.int64]]]:
    """Of these rows, per source and condition that has labels: `source.condition`, the condition's column, and the
    positions in `rows` that count for it: every snapshot of an hourly condition, else each stay's last."""
    for source in np.unique(examples.source[rows]):
        last = examples.snapshot[examples.source == source].max()
        for column, condition in enumerate(CONDITIONS):
            counts = (examples.source[rows] == source) & ~np.isnan(examples.labels[rows, column])
            if not condition.hourly:
                counts &= examples.snapshot[rows] == last
            if counts.any():
                yield f"{source}.{condition.name}", column, np.flatnonzero(counts)


def measure(
    examples: Examples, rows: NDArray[np.int64], probability: NDArray[np.floating]
) -> dict[str, dict[str, object]]:
    """`evaluate` of every task; probability [rows, C], NaN where the score does not speak of a task."""
    return {
        task: evaluate(examples.labels[rows[take], column], probability[take, column], examples.cluster[rows[take]])
        for task, column, take in tasks(examples, rows)
        if not np.isnan(probability[take, column]).any()
    }
