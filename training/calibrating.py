"""Calibration and alert thresholds from validation patients. Shapes: N rows, C conditions."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from models.calibration import Calibration
from models.conditions import NAMES

NEVER = 1.5
"""A threshold above every probability."""
RECALL = {"watch": 0.8, "warning": 0.5, "critical": 0.2}


def fit_calibration(
    logits: NDArray[np.floating], labels: NDArray[np.floating], bootstraps: int, seed: int
) -> Calibration:
    """Platt scaling per condition, and again on `bootstraps` samples of the rows."""
    rng = np.random.default_rng(seed)
    scale, shift = np.ones((bootstraps + 1, labels.shape[1])), np.zeros((bootstraps + 1, labels.shape[1]))
    for column in range(labels.shape[1]):
        known = np.flatnonzero(~np.isnan(labels[:, column]))
        for draw in range(bootstraps + 1):
            rows = known if draw == 0 else rng.choice(known, len(known))
            if 0 < labels[rows, column].sum() < len(rows):
                fit = LogisticRegression(C=1e6).fit(logits[rows, column : column + 1], labels[rows, column])
                scale[draw, column], shift[draw, column] = fit.coef_[0, 0], fit.intercept_[0]
    return Calibration(scale, shift)


def choose_thresholds(probability: NDArray[np.floating], labels: NDArray[np.floating]) -> dict[str, dict[str, float]]:
    """Per condition on validation patients: watch keeps 80 % recall, warning 50 %, critical 20 %.

    A condition that no validation patient has gets thresholds that no score reaches: it was not learned, so it is silent.
    """
    found = {}
    for column, condition in enumerate(NAMES):
        positive = probability[labels[:, column] == 1, column]
        found[condition] = {
            level: float(np.quantile(positive, 1 - recall)) if len(positive) else NEVER
            for level, recall in RECALL.items()
        }
    return found
