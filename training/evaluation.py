"""An artifact over a data set's labelled stays: every figure of every task. Owns what is told of scores.

Scores come from `scores.py` (live reducer, live scorer); thresholds are the artifact's own, from its card, and an
abstaining score calls nobody, as it raises no alert. Alarms at a fixed recall are the score's alone: their thresholds
come from the other half of the patients.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from models.predictor import Predictor
from streaming.errors import ConfigError
from training.alarms import CONDITION, bedside, hours, utility
from training.bootstrap import figure, resample
from training.metrics import at_threshold, evaluate
from training.robustness import ask, curves, modalities_of
from training.scores import Scores, score
from training.sources import READERS
from training.stays import Stay


def evaluate_dataset(
    predictor: Predictor, dataset: str, root: Path, report: Callable[[str], None], robust: bool = False
) -> dict[str, Any]:
    """`tasks.<dataset>.<condition>.<metric>` as {"value", "low", "high"} (95 %, by patient), `n` and `positives`.

    robust: also `robustness.<condition>.<damage>`, as `robustness.curves` gives it.

    Raises:
        ConfigError: no such data set, or nothing in the folder is labelled for a condition of this model.
    """
    if dataset not in READERS:
        raise ConfigError(f"no reader for {dataset!r}; there are {', '.join(READERS)}")
    counted = _Counted(READERS[dataset](root))
    scores = score(predictor, counted, report)
    tasks = {
        f"{dataset}.{name}": _task(scores, name, predictor) for name in scores.conditions if len(scores.rows(name))
    }
    if not tasks:
        raise ConfigError(f"no labelled stays of {dataset} in {root.name}")
    found = {"dataset": dataset, "model": predictor.card.model_hash, "stays": counted.count, "tasks": tasks}
    if robust:
        stays = list(READERS[dataset](root))
        found["robustness"] = curves([ask(predictor, stays, modalities_of(stays), report)])
    return found


class _Counted:
    """An iterable that counts what went through it."""

    def __init__(self, stays: Iterable[Stay]) -> None:
        self._stays, self.count = stays, 0

    def __iter__(self) -> Iterator[Stay]:
        for stay in self._stays:
            self.count += 1
            yield stay


def _task(scores: Scores, condition: str, predictor: Predictor) -> dict[str, Any]:
    rows, column = scores.rows(condition), scores.conditions.index(condition)
    label, probability = scores.labels[rows, column], scores.probability[rows, column]
    thresholds, silent = predictor.card.thresholds[condition], scores.abstains[rows, column]
    warned = (probability >= thresholds["warning"]) & ~silent
    found: dict[str, Any] = evaluate(label, probability, scores.cluster[rows], warned)
    found["without_data"] = int((scores.items[rows] == 0).sum())
    if not 0 < label.sum() < len(label):
        return found
    sample = resample(scores.cluster[rows])
    if condition == CONDITION:
        by_hour = hours(scores.stay[rows], scores.hour[rows], scores.first_event[rows, column])
        found["utility"] = figure(utility(by_hour, (probability >= thresholds["watch"]) & ~silent, sample))
        half = sample.patient % 2
        if all(label[half == side].any() for side in (0, 1)):
            found["alarms"] = [bedside(by_hour, probability, half, sample, recall) for recall in (0.8, 0.6)]
    if predictor.card.conformal is not None:
        found["abstains"] = figure(sample.totals(silent.astype(float)) / sample.totals(np.ones(len(rows))))
        if not silent.all():
            answered = np.flatnonzero(~silent)
            called = probability >= predictor.card.conformal.event_from[column]
            told = at_threshold(label[answered], called[answered], sample.take(answered))
            found |= {f"{name}_where_it_tells": figure(told[name]) for name in ("accuracy", "precision", "recall")}
    return found
