"""Where to call: thresholds chosen on the folds that a row is not in. Shapes: N rows."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from training.bootstrap import F64

Array = NDArray[np.floating]
Goal = Callable[[F64, F64, float], F64]
"""(hits, alarms, events) in rows, for each threshold -> what is to be largest."""


def f1(hits: F64, alarms: F64, events: float) -> F64:
    """Harmonic mean of recall and precision."""
    return 2 * hits / np.maximum(1e-12, alarms + events)


def score1(hits: F64, alarms: F64, events: float) -> F64:
    """The 2012 challenge's: the lesser of recall and precision."""
    return np.minimum(hits / max(1e-12, events), hits / alarms)


def best(label: Array, probability: Array, goal: Goal) -> float:
    """The threshold, of all that tell rows apart, at which the goal is largest."""
    order = np.argsort(-probability, kind="stable")
    ranked = probability[order]
    hits = np.cumsum(label[order] == 1).astype(np.float64)
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(order) - 1)
    return float(ranked[ends[int(np.argmax(goal(hits[ends], ends + 1.0, float(hits[-1]))))]])


def for_recall(highest: Array, recall: float) -> float:
    """The highest threshold that `recall` of the events reach; `highest`: each event's highest score."""
    ranked = np.sort(highest)[::-1]
    return float(ranked[max(0, math.ceil(recall * len(ranked)) - 1)])


def nested(
    probability: Array, fold: NDArray[np.int64], choose: Callable[[NDArray[np.intp]], float]
) -> NDArray[np.bool_]:
    """[N] called positive: each fold at the threshold that `choose` finds on the rows of all other folds.

    Raises:
        ValueError: there is one fold only, so nothing to choose on.
    """
    numbers = np.unique(fold)
    if len(numbers) < 2:
        raise ValueError("a threshold is chosen on other folds, and there is one fold only")
    called = np.zeros(len(probability), bool)
    for number in numbers:
        inside = fold == number
        called[inside] = probability[inside] >= choose(np.flatnonzero(~inside))
    return called
