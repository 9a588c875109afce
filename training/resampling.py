"""Figures of scores with 95 % intervals over patients, and differences between two scores on the same patients.

Patients are drawn again, not rows: hours of one stay are not independent. Each draw is a weight a row, so that scores
are sorted once. Shapes: N rows, R draws; row 0 of a figure's draws is the figure itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.dataset import Examples
from training.metrics import BINS, tasks

Array = NDArray[np.floating]
ROUNDS = 300


@dataclass(frozen=True, slots=True)
class Judged:
    """One task's rows.

    label: [N] 0 or 1. group: [N] patients. hour: [N] ordinal of the row in its stay, for the 2019 utility.
    """

    label: Array
    group: NDArray[np.str_]
    hour: NDArray[np.int64]

    def weights(self, rounds: int, seed: int) -> Iterator[Array]:
        """[N] of ones, then how often each row's patient was drawn, `rounds` times."""
        names, of_row = np.unique(self.group, return_inverse=True)
        yield np.ones(len(self.label))
        rng = np.random.default_rng(seed)
        for _ in range(rounds):
            times = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
            yield times[of_row].astype(np.float64)


def draws(
    judged: Judged,
    probability: Array,
    score1_called: NDArray[np.bool_] | None = None,
    utility_called: NDArray[np.bool_] | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> dict[str, Array]:
    """[R + 1] of every figure: AUROC, AUPRC, Brier, ECE; with `score1_called` (rows called positive) precision, recall and
    their lesser, the 2012 challenge's score 1; with `utility_called` the 2019 challenge's utility."""
    label = judged.label
    order = np.argsort(-probability, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(probability[order])), len(order) - 1)  # of equal scores the last
    ranked = label[order]
    bins = np.empty(len(order), np.int64)
    for number, part in enumerate(np.array_split(order, BINS)):
        bins[part] = number
    gains = None if utility_called is None else utility_gains(judged, utility_called)
    found: dict[str, list[float]] = {}
    for weight in judged.weights(rounds, seed):
        positive = weight * label
        if not 0 < positive.sum() < weight.sum():
            continue
        told = _ranking(weight[order], ranked, ends)
        if probability.max() <= 1:  # a rule's points are no probabilities
            told["brier"] = float(np.average((probability - label) ** 2, weights=weight))
            gap = np.bincount(bins, weight * (label - probability), BINS)
            told["ece"] = float(np.abs(gap).sum() / weight.sum())
        if score1_called is not None:
            told |= _calls(positive, weight, score1_called)
        if gains is not None:
            observed, best, nothing = (float(np.dot(weight, one)) for one in gains)
            told["utility"] = (observed - nothing) / (best - nothing)
        for name, value in told.items():
            found.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in found.items()}


def _ranking(weight: Array, label: Array, ends: NDArray[np.int64]) -> dict[str, float]:
    """AUROC (ties count half) and average precision from rows sorted by falling score."""
    hit = np.cumsum(weight * label)[ends]
    miss = np.cumsum(weight * (1 - label))[ends]
    new_hit, new_miss = np.diff(hit, prepend=0.0), np.diff(miss, prepend=0.0)
    auroc = float(np.sum(new_miss * (hit - new_hit / 2)) / (hit[-1] * miss[-1]))
    called = hit + miss
    precision = np.divide(hit, called, out=np.zeros_like(hit), where=called > 0)
    return {"auroc": auroc, "auprc": float(np.sum(new_hit * precision) / hit[-1])}


def _calls(positive: Array, weight: Array, called: NDArray[np.bool_]) -> dict[str, float]:
    hit = float(positive[called].sum())
    precision, recall = hit / max(1e-12, float(weight[called].sum())), hit / float(positive.sum())
    return {"precision": precision, "recall": recall, "score1": min(precision, recall)}


def interval(values: Array) -> dict[str, float]:
    """`{"value", "low", "high"}` of a figure's draws."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return {"value": float(values[0]), "low": float(low), "high": float(high)}


def summary(found: Mapping[str, Array], judged: Judged) -> dict[str, Any]:
    """Every figure with its interval, and how much it rests on."""
    told: dict[str, Any] = {name: interval(values) for name, values in found.items()}
    positive = judged.label == 1
    return told | {
        "n": len(judged.label),
        "positives": int(positive.sum()),
        "patients": len(np.unique(judged.group)),
        "positive_patients": len(np.unique(judged.group[positive])),
    }


def measure(
    examples: Examples, rows: NDArray[np.int64], probability: Array, rounds: int = ROUNDS
) -> dict[str, dict[str, Any]]:
    """Of every task that has both labels among these rows; probability [rows, C]."""
    found = {}
    for task, column, take in tasks(examples, rows):
        judged = Judged(examples.labels[rows[take], column], examples.group[rows[take]], examples.snapshot[rows[take]])
        if 0 < judged.label.sum() < len(take):
            found[task] = summary(draws(judged, probability[take, column].astype(np.float64), rounds=rounds), judged)
    return found


def differences(one: Mapping[str, Array], other: Mapping[str, Array]) -> dict[str, dict[str, float]]:
    """One score's figures minus another's, draw by draw of the same patients."""
    return {
        name: interval(one[name] - other[name]) for name in one if name in other and len(one[name]) == len(other[name])
    }


EARLY, BEST, LATE = -12, -6, 3
MISSED, FALSE_ALARM = -2.0, -0.05


def utility_gains(judged: Judged, called: NDArray[np.bool_]) -> tuple[Array, Array, Array]:
    """[N] each: the utility of these calls, of the best possible ones, and of none (PhysioNet/CinC Challenge 2019).

    The onset of sepsis is six hours after the first hour labelled 1. Reyna et al. 2020, Crit Care Med 48(2):210.
    """
    label, group, hour = judged.label, judged.group, judged.hour
    names, of_row = np.unique(group, return_inverse=True)
    first = np.full(len(names), np.iinfo(np.int64).max)
    np.minimum.at(first, of_row[label == 1], hour[label == 1])
    septic = (first < np.iinfo(np.int64).max)[of_row]
    since = np.where(septic, hour - (np.where(septic, first[of_row], 0) - BEST), 0)
    rising = np.maximum((since - EARLY) / (BEST - EARLY), FALSE_ALARM)
    falling = (LATE - since) / (LATE - BEST)
    hit = np.where(since <= BEST, rising, np.where(since <= LATE, falling, 0.0))
    missed = np.where((since > BEST) & (since <= LATE), MISSED * (since - BEST) / (LATE - BEST), 0.0)
    yes, no = np.where(septic, hit, FALSE_ALARM), np.where(septic, missed, 0.0)
    worth = septic & (since >= EARLY) & (since <= LATE)
    return np.where(called, yes, no), np.where(worth, yes, no), no


def best_threshold(probability: Array, judged: Judged, figure: str, tried: int = 200) -> float:
    """The threshold that gives the highest `score1` or `utility` on these rows, among quantiles of their scores."""
    candidates = np.unique(np.quantile(probability, np.linspace(0, 1, tried + 1) ** 0.25))
    return float(max(candidates, key=lambda threshold: _at(probability, judged, figure, threshold)))


def _at(probability: Array, judged: Judged, figure: str, threshold: float) -> float:
    called = probability >= threshold
    if figure == "score1":
        return _calls(judged.label, np.ones(len(called)), called)["score1"]
    return float(utility_gains(judged, called)[0].sum())


def calls(probability: Array, fold: NDArray[np.int64], judged: Judged, figure: str) -> NDArray[np.bool_]:
    """[N] rows called positive, each at the threshold that was best on the other folds' patients."""
    called = np.zeros(len(probability), bool)
    for number in np.unique(fold):
        inside = fold == number
        rest = Judged(judged.label[~inside], judged.group[~inside], judged.hour[~inside])
        called[inside] = probability[inside] >= best_threshold(probability[~inside], rest, figure)
    return called
