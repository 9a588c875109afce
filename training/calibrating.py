"""Calibration and alert thresholds from validation patients. Shapes: N rows, C conditions."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from models.calibration import Calibration
from models.conditions import NAMES
from models.conformal import Conformal, abstains

NEVER = 1.5
"""A threshold above every probability."""
SCALE_SPREAD, SHIFT_SPREAD = 0.5, 0.3
"""Spreads of the normal priors of a calibration's scale, around 1, and shift, around 0: a handful of validation patients
must not turn a score round. Hundreds outweigh them."""
BELIEVED_SPREAD = 0.1
"""The same where the logits start as log odds that are out of fold: more patients stand behind those than behind a
validation part."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
RECALL = {"watch": 0.8, "warning": 0.5, "critical": 0.2}
"""Of rows with the event: hours of an hourly condition, snapshots of any other; not of patients."""


def fit_calibration(
    logits: NDArray[np.floating],
    labels: NDArray[np.floating],
    cluster: NDArray[np.str_],
    bootstraps: int,
    seed: int,
    believed: Mapping[str, float] | None = None,
) -> Calibration:
    """Platt scaling per condition, and again on `bootstraps` samples of the patients, each about a draw from the prior: with
    few patients the interval is as wide as what was believed before. Rows of one patient (`cluster`) count as one in all.

    believed: conditions whose logits are log odds already, but for this shift: their calibration stays near it.
    """
    rng = np.random.default_rng(seed)
    scale, shift = np.ones((bootstraps + 1, labels.shape[1])), np.zeros((bootstraps + 1, labels.shape[1]))
    for column, name in enumerate(NAMES):
        known = np.flatnonzero(~np.isnan(labels[:, column]))
        patients, of_row = np.unique(cluster[known], return_inverse=True)
        off, spread = 0.0, (SCALE_SPREAD, SHIFT_SPREAD)
        if believed and name in believed:
            off, spread = believed[name], (BELIEVED_SPREAD, BELIEVED_SPREAD)
        for draw in range(bootstraps + 1):
            rows, centre = known, (1.0, off)
            if draw:
                drawn = rng.integers(0, max(1, len(patients)), len(patients))
                rows = np.repeat(known, np.bincount(drawn, minlength=len(patients))[of_row])
                centre = (rng.normal(1, spread[0]), rng.normal(off, spread[1]))
            if 0 < labels[rows, column].sum() < len(rows):
                told, label, worth = logits[rows, column], labels[rows, column], len(patients) / len(rows)
                scale[draw, column], shift[draw, column] = _platt(told, label, worth, centre, spread)
    return Calibration(scale, shift)


def _platt(
    logit: NDArray[np.floating],
    label: NDArray[np.floating],
    worth: float,
    centre: tuple[float, float],
    spread: tuple[float, float],
) -> tuple[float, float]:
    """Scale, not negative, and shift that are likeliest. `centre`: what is believed of the scale and of how far the mean
    logit is off; a flatter scale leaves the mean where it is. worth: what a row counts."""
    middle = float(logit.mean())
    design = np.stack([logit - middle, np.ones_like(logit)], 1).astype(np.float64)
    believed = np.array([centre[0], middle + centre[1]])

    def loss(asked: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        told, off = design @ asked, (asked - believed) / spread
        value = worth * (np.logaddexp(0, told) - label * told).sum() + 0.5 * off @ off
        return value, worth * design.T @ (0.5 * (1 + np.tanh(told / 2)) - label) + off / spread

    scale, level = minimize(loss, believed, jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)]).x
    return scale, level - scale * middle


def choose_shares(
    told: NDArray[np.floating], own: NDArray[np.floating], labels: NDArray[np.floating], cluster: NDArray[np.str_]
) -> NDArray[np.float32]:
    """[C] how much of the network's own logits [N, C] is added to what classical fits say: the least share that tells
    validation patients as well as the best one, to within a standard error of the difference (Breiman et al. 1984). Few
    patients bear out little. Patients count alike, however many rows they have."""
    shares = np.zeros(labels.shape[1], np.float32)
    for column in range(labels.shape[1]):
        rows = np.flatnonzero(~np.isnan(labels[:, column]))
        if len(rows) == 0:
            continue
        label = labels[rows, column]
        logits = told[rows, column] + np.multiply.outer(SHARES, own[rows, column])
        _, of_row, count = np.unique(cluster[rows], return_inverse=True, return_counts=True)
        loss = np.stack([np.bincount(of_row, one) / count for one in np.logaddexp(0, logits) - label * logits])
        worse = loss - loss[loss.mean(1).argmin()]  # [shares, patients]
        within = worse.mean(1) <= worse.std(1) / np.sqrt(len(count))
        shares[column] = SHARES[int(within.argmax())]
    return shares


def kept_recall(
    probability: NDArray[np.floating],
    labels: NDArray[np.floating],
    thresholds: Mapping[str, Mapping[str, float]],
    sets: Conformal,
) -> dict[str, dict[str, float]]:
    """Per condition and level the share of rows with the event, not of patients, that alert: at its threshold or above, and
    not abstaining. 0 where no row has the event."""
    tells = ~abstains(sets.contains(probability))
    found = {}
    for column, condition in enumerate(NAMES):
        event = labels[:, column] == 1
        told, score = tells[event, column], probability[event, column]
        found[condition] = {
            level: float((told & (score >= at)).mean()) if event.any() else 0.0
            for level, at in thresholds[condition].items()
        }
    return found


def choose_thresholds(probability: NDArray[np.floating], labels: NDArray[np.floating]) -> dict[str, dict[str, float]]:
    """Per condition on validation patients' rows: by the score alone each level keeps its `RECALL` of those with the event.

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
