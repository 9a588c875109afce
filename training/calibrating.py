"""Calibration and alert thresholds from validation patients. Shapes: N rows, C conditions."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from models.calibration import Calibration
from models.conditions import NAMES

NEVER = 1.5
"""A threshold above every probability."""
SPREAD = 0.1
"""Standard deviation of what is believed of a calibration's scale and shift where the logits start as log odds that are
out of fold: thousands of patients stand behind those, hundreds behind a validation part."""
RECALL = {"watch": 0.8, "warning": 0.5, "critical": 0.2}


def fit_calibration(
    logits: NDArray[np.floating],
    labels: NDArray[np.floating],
    group: NDArray[np.str_],
    bootstraps: int,
    seed: int,
    believed: Mapping[str, float] | None = None,
) -> Calibration:
    """Platt scaling per condition, and again on `bootstraps` samples of the rows; rows of one patient count as one.

    believed: conditions whose logits are log odds already, but for this shift: their calibration stays near it.
    """
    rng = np.random.default_rng(seed)
    scale, shift = np.ones((bootstraps + 1, labels.shape[1])), np.zeros((bootstraps + 1, labels.shape[1]))
    for column, name in enumerate(NAMES):
        known = np.flatnonzero(~np.isnan(labels[:, column]))
        worth = len(np.unique(group[known])) / max(1, len(known))
        centre = (1.0, (believed or {}).get(name, 0.0))
        spread = SPREAD if name in (believed or {}) else np.inf
        for draw in range(bootstraps + 1):
            rows = known if draw == 0 else rng.choice(known, len(known))
            if 0 < labels[rows, column].sum() < len(rows):
                told, label = logits[rows, column], labels[rows, column]
                scale[draw, column], shift[draw, column] = _platt(told, label, worth, centre, spread)
    return Calibration(scale, shift)


def _platt(
    logit: NDArray[np.floating],
    label: NDArray[np.floating],
    worth: float,
    centre: tuple[float, float],
    spread: float,
) -> NDArray[np.float64]:
    """Scale and shift that are likeliest, with a normal prior around `centre`. worth: what a row counts."""
    design = np.stack([logit, np.ones_like(logit)], 1).astype(np.float64)

    def loss(asked: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        told, off = design @ asked, (asked - centre) / spread
        value = worth * (np.logaddexp(0, told) - label * told).sum() + 0.5 * off @ off
        return value, worth * design.T @ (0.5 * (1 + np.tanh(told / 2)) - label) + off / spread

    return minimize(loss, np.array(centre), jac=True, method="L-BFGS-B").x


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
