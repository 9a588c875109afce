"""One task's figures for the report, as JSON: the model, its peers, calibration, slices, alarms, abstention.

Every figure has its bootstrap interval by patient; a difference is the paired one, model minus peer. Thresholds (F1,
score 1, utility, recall) and conformal cuts are chosen on the other folds' rows. Rows are hours of hourly tasks and stays of
others: all but intervals, `patients` and alarms counts them. Owns what is measured; no text.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import conformal
from models.conditions import BY_NAME
from training import alarms, thresholds
from training.bootstrap import F64, ROUNDS, Resample, figure, rarer, resample, verdict
from training.metrics import at_threshold, calibration, figures, ranked
from training.peers import RULES
from training.predictions import Task

Figures = dict[str, Any]
AGES = ((0, 45), (45, 65), (65, 80), (80, 200))
FEWEST = 10
"""A slice with fewer patients with the event, or without, has no figures: its interval would say nothing."""
SLICE_ROUNDS = 200
"""Draws of a slice at most."""
LEVELS = (0.8, 0.9, 0.95)


def of_task(task: Task, rounds: int = ROUNDS) -> Figures:
    """Everything of one task: the model's metrics by name, `n`, `positives`, `patients`, and parts by name."""
    found: Figures = {
        "n": len(task.label),
        "unit": "hours" if BY_NAME[task.condition].hourly else "stays",
        "positives": int(task.label.sum()),
        "patients": len(np.unique(task.cluster)),
        "patients_with_event": len(np.unique(task.cluster[task.label == 1])),
        "rarer": rarer(task.label, task.cluster),
        "folds": len(np.unique(task.fold)),
    }
    if not 0 < task.label.sum() < len(task.label):
        return found
    sample = resample(task.cluster, rounds)
    base = _draws(task, "model", sample)
    found |= figures(base)
    others = [who for who in task.probability if who != "model"]
    found["peers"] = {who: _beside(base, _draws(task, who, sample), found["rarer"]) for who in others}
    told = task.probability["model"]
    found["calibration"] = calibration(task.label, told, sample)
    found["slices"] = {f"{kind}: {name}": one for kind, name, one in _slices(task, rounds)}
    found["abstention"] = [_abstention(task, level, sample) for level in LEVELS]
    if task.condition == alarms.CONDITION:
        hours = alarms.hours(task.stay, task.hour, task.first_event)
        found["alarms"] = {
            who: [alarms.bedside(hours, p, task.fold, sample, recall) for recall in (0.8, 0.6)]
            for who, p in task.probability.items()
        }
    return found


def compared(task: Task, base: str, rounds: int = ROUNDS, rows: NDArray[np.bool_] | None = None) -> Figures:
    """Each score of a task and the paired difference `base` minus it, over some of the rows."""
    kept = np.flatnonzero(np.ones(len(task.label), bool) if rows is None else rows)
    label = task.label[kept]
    found: Figures = {"n": len(kept), "positives": int(label.sum()), "rarer": rarer(label, task.cluster[kept])}
    if not 0 < label.sum() < len(label):
        return found
    sample = resample(task.cluster[kept], rounds)
    draws = {who: ranked(label, told[kept], sample) for who, told in task.probability.items()}
    found["scores"] = {who: _beside(draws[base], one, found["rarer"]) for who, one in draws.items()}
    return found


def _beside(base: dict[str, F64], one: dict[str, F64], patients: int) -> Figures:
    difference = {metric: figure(base[metric] - one[metric]) for metric in one if metric in base}
    told = {name: gap | {"verdict": verdict(gap, patients)} for name, gap in difference.items()}
    return figures(one) | {"difference": told}


def _draws(task: Task, who: str, sample: Resample) -> dict[str, F64]:
    label, told = task.label, task.probability[who].astype(np.float64)
    found = ranked(label, told, sample)
    if who in RULES:  # points, no probability
        del found["brier"], found["ece"]
    called = thresholds.nested(told, task.fold, lambda rows: thresholds.best(label[rows], told[rows], thresholds.f1))
    found |= {name: draws for name, draws in at_threshold(label, called, sample).items() if name != "score1"}
    if task.condition == alarms.CONDITION:
        hours = alarms.hours(task.stay, task.hour, task.first_event)
        called = thresholds.nested(told, task.fold, lambda rows: alarms.utility_threshold(hours, told, rows))
        found["utility"] = alarms.utility(hours, called, sample)
    else:
        called = thresholds.nested(
            told, task.fold, lambda rows: thresholds.best(label[rows], told[rows], thresholds.score1)
        )
        found["score1"] = at_threshold(label, called, sample)["score1"]
    return found


def _slices(task: Task, rounds: int) -> Iterable[tuple[str, str, Figures]]:
    parts: list[tuple[str, str, NDArray[np.bool_]]] = []
    for low, high in AGES:
        name = f"{low} to {high - 1}" if high < 200 else f"{low} and over"
        parts.append(("age", name, (task.age >= low) & (task.age < high)))
    parts += [("sex", name, task.male == value) for name, value in (("female", 0), ("male", 1))]
    parts += [("site", str(site), task.site == site) for site in np.unique(task.site) if site]
    for kind, name, inside in parts:
        rows = np.flatnonzero(inside)
        label, cluster = task.label[rows], task.cluster[rows]
        with_event, without = len(np.unique(cluster[label == 1])), len(np.unique(cluster[label == 0]))
        one: Figures = {"n": len(rows), "positives": int(label.sum()), "patients": len(np.unique(cluster))}
        if min(with_event, without) >= FEWEST:
            one |= figures(ranked(label, task.probability["model"][rows], resample(cluster, min(rounds, SLICE_ROUNDS))))
        if len(rows):
            yield kind, name, one


def _abstention(task: Task, level: float, sample: Resample) -> Figures:
    """Prediction sets whose cuts come from the other folds: the share of rows with the event that they cover, the same
    without it, the share of rows that abstain, and accuracy where the set is one outcome."""
    told = task.probability["model"].astype(np.float64)[:, None]
    contains = np.zeros((len(told), 2), bool)
    for number in np.unique(task.fold):
        inside = task.fold == number
        sets = conformal.fit(told[~inside], task.label[~inside, None], task.cluster[~inside], level)
        contains[inside] = sets.contains(told[inside])[:, 0]
    silent = conformal.abstains(contains)
    event = task.label == 1
    right = ~silent & (contains[:, 1] == event)
    with np.errstate(invalid="ignore", divide="ignore"):
        hit, events, kept, others, quiet, all_, good = sample.totals(
            np.stack(
                [contains[:, 1] & event, event, contains[:, 0] & ~event, ~event, silent, np.ones_like(event), right], 1
            ).astype(np.float64)
        ).T
        found = {
            "level": level,
            "coverage_event": figure(hit / events),
            "coverage_no_event": figure(kept / others),
            "abstains": figure(quiet / all_),
        }
        if quiet[0] < all_[0]:
            found["accuracy_where_it_tells"] = figure(good / (all_ - quiet))
        return found
