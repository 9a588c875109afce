"""Bootstrap by patient: whole patients are drawn, so that one patient's hours count together. Owns draws and intervals.

Every array of draws is f64 [1 + R]: the figure on the data itself, then on each of R resamples. Models measured with one
`Resample` share their draws, so the difference of their arrays is the paired bootstrap of their difference.
Shapes: N rows, P patients, R resamples.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
ROUNDS = 500
FEW = 30
"""Patients of the rarer class; intervals from fewer are narrower than the truth."""
TOO_FEW = "too few patients"
_CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class Resample:
    """patient: [N] the row's patient, 0..P-1. counts: u16 [1 + R, P] how often each patient is drawn; row 0 is ones."""

    patient: NDArray[np.intp]
    counts: NDArray[np.uint16]

    def chunks(self) -> Iterator[NDArray[np.uint16]]:
        """Rows of `counts`, so many at a time that [rows, N] stays small."""
        step = max(1, _CELLS // max(1, len(self.patient)))
        for first in range(0, len(self.counts), step):
            yield self.counts[first : first + step]

    def totals(self, of_row: NDArray[np.floating]) -> F64:
        """[1 + R, ...] sums over rows of [N, ...], each row as often as its patient is drawn."""
        flat = of_row.reshape(len(of_row), -1).astype(np.float64)
        patients = self.counts.shape[1]
        of_patient = np.stack([np.bincount(self.patient, column, patients) for column in flat.T], 1)
        return (self.counts @ of_patient).reshape(len(self.counts), *of_row.shape[1:])

    def take(self, rows: NDArray[np.int64]) -> "Resample":
        """The same draws over some of the rows."""
        return Resample(self.patient[rows], self.counts)


def resample(group: NDArray[np.str_], rounds: int = ROUNDS, seed: int = 0) -> Resample:
    """Draws of as many patients as there are, with replacement."""
    _, patient = np.unique(group, return_inverse=True)
    patients = int(patient.max()) + 1 if len(patient) else 0
    rng = np.random.default_rng(seed)
    counts = np.ones((1 + rounds, patients), np.uint16)
    for row in counts[1:]:
        row[:] = np.bincount(rng.integers(0, max(1, patients), patients), minlength=patients)
    return Resample(patient, counts)


def figure(draws: F64, centred: bool = False) -> dict[str, float]:
    """{"value", "low", "high"}: 95 % percentile interval.

    centred: the draws are moved so that their median is the value, for figures that resampling itself makes larger
    (a calibration error is a mean of absolute gaps, and drawing adds to each gap).
    """
    value, spread = float(draws[0]), draws[1:][np.isfinite(draws[1:])]
    if centred and len(spread):
        spread = np.maximum(0.0, spread - np.median(spread) + value)
    low, high = np.quantile(spread, [0.025, 0.975]) if len(spread) else (value, value)
    return {"value": value, "low": float(low), "high": float(high)}


def rarer(label: NDArray[np.floating], cluster: NDArray[np.str_]) -> int:
    """Patients of the rarer class: those who ever have the event [N], or those who never do."""
    with_event = len(np.unique(cluster[label == 1]))
    return min(with_event, len(np.unique(cluster)) - with_event)


def verdict(difference: dict[str, float], patients: int) -> str:
    """What a paired difference lets one say: "above", "below", or "not told apart" where its interval holds 0; of fewer
    `patients` of the rarer class than `FEW` nothing is said but that (`TOO_FEW`)."""
    if patients < FEW:
        return TOO_FEW
    if difference["low"] > 0:
        return "above"
    return "below" if difference["high"] < 0 else "not told apart"
