"""Fits the log odds that the vitals encoder holds (`models/odds.py`), and the ones it learns with.

While the network learns, a patient's log odds come from fits that never saw the patient (one a fold of patients); those
it is served with are fitted to all of these patients. None sees a patient outside the rows it is given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from models.conditions import CONDITIONS, NAMES
from models.odds import Odds
from models.vitals import INPUTS, VitalsEncoder
from training.boosting import fit_trees
from training.cohort import patient_folds
from training.dataset import Examples
from training.hand import AT_ONCE, hand_features
from training.peers import training_rows

Rows = NDArray[np.int64]
FOLDS = 4
FEWEST = 300
"""Fewer labelled rows than this make no fits."""
PENALTY = 300.0
"""On the regression's squared weights: thousands of inputs, few stays with the condition."""
LATE = 2
"""Last snapshots of a stay that are learned from: the one before the last is a second look at the same patient."""
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Weights that the regression may get; the greater part is the trees'."""


@dataclass(frozen=True, slots=True)
class Learning:
    """fold: [N] which of `fits` never saw the row's patient; -1: none did, the served ones will do. conditions: those
    that had labels enough."""

    fits: Sequence[Odds]
    fold: NDArray[np.int64]
    conditions: Sequence[str]


def fit_odds(
    vitals: VitalsEncoder,
    conditions: Sequence[str],
    examples: Examples,
    rows: Rows,
    seed: int,
    report: Callable[[str], None],
    bags: int = 1,
) -> Learning:
    """Fills the encoder's odds in place from these rows; its normal scores are there already."""
    fold = patient_folds(examples.group, examples.stratum, rows, FOLDS, seed)
    inner = [Odds(*vitals.odds.trees.threshold.shape[:2], INPUTS) for _ in range(FOLDS)]
    fitted = []
    for place, condition in enumerate(conditions):
        column = NAMES.index(condition)
        learned = training_rows(examples, rows, column, seed, other_hours=1.0, late=LATE)
        label, taught = examples.labels[learned, column], examples.taught[learned, column]
        if len(learned) < FEWEST or not 0 < label.sum() < len(label):
            continue
        report(f"log odds of {CONDITIONS[column].name}: {len(learned)} rows")
        features, told = hand_features(examples, learned), summarised(vitals, examples, learned)
        for number, odds in enumerate(inner):
            rest = fold[learned] != number
            _fit(odds, place, features[rest], told[rest], taught[rest], _seeds(seed, number, bags))
        told_of = _unseen(inner, place, fold[learned], features, told)
        share = best_share(*told_of, label)
        report(f"share of the regression: {share}")
        for odds in (*inner, vitals.odds):
            odds.share[place] = share
        _fit(vitals.odds, place, features, told, taught, _seeds(seed, FOLDS, bags))
        fitted.append(condition)
    return Learning(inner, fold, fitted)


def _fit(
    odds: Odds,
    place: int,
    features: NDArray[np.floating],
    told: NDArray[np.floating],
    taught: NDArray[np.floating],
    seeds: Sequence[int],
) -> None:
    fit_trees(odds.trees, place, features, taught, seeds)
    fit_additive(odds, place, told, taught)


def _seeds(seed: int, number: int, bags: int) -> list[int]:
    return [seed + bags * number + bag for bag in range(bags)]


def _unseen(
    inner: Sequence[Odds], place: int, fold: Rows, features: NDArray[np.floating], told: NDArray[np.floating]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """[rows] log odds by trees and by regression, each of the fit that never saw the row."""
    by_trees, by_regression = np.zeros(len(fold), np.float32), np.zeros(len(fold), np.float32)
    for number, odds in enumerate(inner):
        mine = np.flatnonzero(fold == number)
        for first in range(0, len(mine), AT_ONCE):
            rows = mine[first : first + AT_ONCE]
            by_trees[rows] = odds.trees(torch.from_numpy(features[rows]))[:, place].numpy()
            by_regression[rows] = odds.additive(torch.from_numpy(told[rows]))[:, place].numpy()
    return by_trees, by_regression


def best_share(
    by_trees: NDArray[np.floating], by_regression: NDArray[np.floating], label: NDArray[np.floating]
) -> float:
    """The regression's weight at which AUROC and AUPRC are greatest together."""

    def ranks(share: float) -> float:
        told = (1 - share) * by_trees + share * by_regression
        return float(roc_auc_score(label, told) + average_precision_score(label, told))

    return max(SHARES, key=ranks)


def summarised(vitals: VitalsEncoder, examples: Examples, rows: Rows) -> NDArray[np.float32]:
    """[rows, INPUTS] of `VitalsEncoder.summarised`."""
    parts = []
    for first in range(0, len(rows), AT_ONCE):
        summary = torch.from_numpy(examples.summary[rows[first : first + AT_ONCE]])
        parts.append(vitals.summarised(summary, vitals.known(summary)).numpy())
    return np.concatenate(parts)


def fit_additive(
    odds: Odds, place: int, told: NDArray[np.floating], taught: NDArray[np.floating]
) -> LogisticRegression:
    """The regression that the log odds of condition `place` now hold. taught: [rows] in [0, 1]; what lies between is
    learned with either label, each for its part."""
    either = np.flatnonzero((taught > 0) & (taught < 1))
    rows = np.append(np.arange(len(taught)), either)
    label = np.append(np.ceil(taught), np.zeros(len(either)))
    weight = np.append(np.where(taught > 0, taught, 1.0), 1 - taught[either])
    fitted = LogisticRegression(C=1 / PENALTY, max_iter=300).fit(told[rows], label, weight)
    odds.weight[place] = torch.from_numpy(fitted.coef_[0])
    odds.bias[place] = float(fitted.intercept_[0])
    return fitted
