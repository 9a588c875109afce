"""Fits the log odds that the vitals encoder holds (`models/odds.py`), and the ones it learns with.

While the network learns, a patient's log odds come from fits that never saw the patient (one a fold of patients); those
it is served with are fitted to all training patients. None sees a patient outside the training rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from models.conditions import CONDITIONS, NAMES
from models.odds import Odds
from models.vitals import INPUTS, VitalsEncoder
from training.boosting import BAGS, fit_trees
from training.dataset import Examples
from training.hand import AT_ONCE, hand_features
from training.peers import training_rows

Rows = NDArray[np.int64]
FOLDS = 3
FEWEST = 300
"""Fewer labelled rows than this make no fits."""
PENALTY = 300.0
"""On the regression's squared weights: thousands of inputs, few stays with the condition."""
LATE = 2
"""Last snapshots of a stay that are learned from: the one before the last is a second look at the same patient."""
_ASKED_OF = ("last", "last_age_h", "last_mask", "figures")


@dataclass(frozen=True, slots=True)
class Learning:
    """fold: [N] which of `fits` never saw the row's patient; -1: none did, the served ones will do."""

    fits: Sequence[Odds]
    fold: NDArray[np.int64]


def fit_odds(
    vitals: VitalsEncoder,
    conditions: Sequence[str],
    examples: Examples,
    rows: Rows,
    seed: int,
    report: Callable[[str], None],
) -> Learning:
    """Fills the encoder's odds in place from these rows; its normal scores are there already."""
    names, of_row = np.unique(examples.group[rows], return_inverse=True)
    fold = np.full(len(examples.group), -1)
    fold[rows] = np.random.default_rng(seed).permutation(len(names))[of_row] % FOLDS
    inner = [Odds(*vitals.odds.trees.threshold.shape[:2], INPUTS) for _ in range(FOLDS)]
    for place, condition in enumerate(conditions):
        column = NAMES.index(condition)
        learned = training_rows(examples, rows, column, seed, other_hours=1.0, late=LATE)
        label = examples.labels[learned, column]
        if len(learned) < FEWEST or not 0 < label.sum() < len(label):
            continue
        report(f"log odds of {CONDITIONS[column].name}: {len(learned)} rows")
        features, told = hand_features(examples, learned), summarised(vitals, examples, learned)
        for number, odds in enumerate(inner):
            rest = fold[learned] != number
            fit_trees(odds.trees, place, features[rest], label[rest], [seed + number])
            fit_additive(odds, place, told[rest], label[rest])
        fit_trees(vitals.odds.trees, place, features, label, [seed + FOLDS + bag for bag in range(BAGS)])
        fit_additive(vitals.odds, place, told, label)
    return Learning(inner, fold)


def summarised(vitals: VitalsEncoder, examples: Examples, rows: Rows) -> NDArray[np.float32]:
    """[rows, INPUTS] of `VitalsEncoder.summarised`."""
    parts = []
    for first in range(0, len(rows), AT_ONCE):
        window = examples.window(rows[first : first + AT_ONCE])
        parts.append(vitals.summarised(*(torch.from_numpy(getattr(window, name)) for name in _ASKED_OF)).numpy())
    return np.concatenate(parts)


def fit_additive(odds: Odds, place: int, told: NDArray[np.floating], label: NDArray[np.floating]) -> LogisticRegression:
    """The regression that the log odds of condition `place` now hold."""
    fitted = LogisticRegression(C=1 / PENALTY, max_iter=300).fit(told, label)
    odds.weight[place] = torch.from_numpy(fitted.coef_[0])
    odds.bias[place] = float(fitted.intercept_[0])
    return fitted
