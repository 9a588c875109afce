"""What the model sees of a patient's measurements: the 48 h that end at an anchor. NumPy only.

Shapes: T two-hour bins, V signals, F figures (`FIGURES`), B patients. Values are in canonical units; normalisation is
inside the network. The anchor is the newest measurement, so that the vitals' embedding depends on the measurements
alone and can be cached; how old they are by now is told to the fusion as the token's age.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.signals import SIGNALS, by_name

HOURS = 48
HOUR_MS = 3_600_000
BIN_MS = 2 * HOUR_MS
BINS = HOURS * HOUR_MS // BIN_MS
V = len(SIGNALS)

HORIZONS_H = (6, 24, HOURS)
FIGURES = (
    *(f"count_{hours}h" for hours in HORIZONS_H),
    *(f"{name}_{hours}h" for name in ("mean", "min", "max") for hours in HORIZONS_H),
    f"std_{HOURS}h",
    f"first_{HOURS}h",
)
"""Figures of each signal over the last hours; 0 where its count over the same hours is 0."""
F = len(FIGURES)
H = len(HORIZONS_H)
ROWS = ("measured", *FIGURES, "last", "age")
"""Of the summary: whether each signal was ever measured, its figures, its newest value, and that one's age in hours."""
R = len(ROWS)
_LAST, _AGE = ROWS.index("last"), ROWS.index("age")

MODALITIES = ("vitals", "notes", "scans")
MAX_NOTES = 3
MAX_SERIES = 3
SLOTS = ("vitals", *("notes",) * MAX_NOTES, *("scans",) * MAX_SERIES)
"""Tokens of the fusion, newest first within a modality; a scan slot is one series."""
OF_MODALITY = np.array([[slot == name for name in MODALITIES] for slot in SLOTS], np.float32)
"""[S, M]: which modality each slot is of."""

_STATIC = np.array([signal.kind == "static" for signal in SIGNALS])
_TIMELESS = _STATIC & (np.arange(V) != by_name["unit"])
"""Static facts whose time means nothing; the unit's is when it took the patient."""


class Summarised:
    """Rows of a `summary` by name, as views [..., V]; figures [..., F, V]."""

    __slots__ = ()
    summary: NDArray[np.float32]

    @property
    def last(self) -> NDArray[np.float32]:
        return self.summary[..., _LAST, :]

    @property
    def last_age_h(self) -> NDArray[np.float32]:
        return self.summary[..., _AGE, :]

    @property
    def last_mask(self) -> NDArray[np.float32]:
        return self.summary[..., 0, :]

    @property
    def figures(self) -> NDArray[np.float32]:
        return self.summary[..., 1 : 1 + F, :]


@dataclass(frozen=True, slots=True)
class PatientWindow(Summarised):
    """One patient's measurements; what was never measured is 0 everywhere.

    bins: f32 [T, 2V]; each signal's value, then whether there is one. The last bin ends at the anchor; of several values
    in a bin the newest.
    summary: f32 [R, V]; see `ROWS`. Static signals have no figures.
    """

    bins: NDArray[np.float32]
    summary: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class WindowBatch(Summarised):
    """The same fields with a leading B."""

    bins: NDArray[np.float32]
    summary: NDArray[np.float32]


WINDOW_FIELDS = ("bins", "summary")
"""In the order in which encoders take them."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What runs of measurements amount to; each run is one signal's and lies within one bin. All [N]."""

    count: NDArray[np.float64]
    total: NDArray[np.float64]
    square: NDArray[np.float64]  # sum of squares
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    first: NDArray[np.float32]


def build_window(
    time_ms: NDArray[np.int64], signal: NDArray[np.int64], value: NDArray[np.float32], anchor_ms: int
) -> PatientWindow:
    """`build_windows` of one patient."""
    row = np.zeros(len(value), np.int64)
    batch = build_windows(time_ms, signal, value, row, np.array([anchor_ms]))
    return PatientWindow(*(getattr(batch, name)[0] for name in WINDOW_FIELDS))


def build_windows(
    time_ms: NDArray[np.int64],
    signal: NDArray[np.int64],
    value: NDArray[np.float32],
    row: NDArray[np.int64],
    anchor_ms: NDArray[np.int64],
    sums: Sums | None = None,
) -> WindowBatch:
    """Windows that end at `anchor_ms` [B], of observations of row `row`, ascending in time within each row and signal.

    Observations after the anchor are left out: the window never sees the future. With `sums` each is a run, at the time
    and of the value of its last measurement.
    """
    b = len(anchor_ms)
    bins, summary = np.zeros((b, BINS, 2 * V), np.float32), np.zeros((b, R, V), np.float32)
    window, into_bins, into_summary = WindowBatch(bins, summary), bins.reshape(-1), summary.reshape(-1)
    age_ms = anchor_ms[row] - time_ms
    static = _STATIC[signal]
    kept = (age_ms >= 0) | static
    age_ms, row, signal, value, static = _where(kept, age_ms, row, signal, value, static)
    sums = _sums_where(kept, sums)
    place = row * (R * V) + signal  # of repeated places NumPy keeps the last assignment
    into_summary[place] = 1.0
    into_summary[place + _LAST * V] = value
    into_summary[place + _AGE * V] = np.maximum(age_ms, 0) / HOUR_MS
    window.last_age_h[:, _TIMELESS] = 0.0
    kept = (age_ms < HOURS * HOUR_MS) & ~static
    age_ms, row, signal, value = _where(kept, age_ms, row, signal, value)
    cell = (row * BINS + (BINS - 1 - age_ms // BIN_MS)) * (2 * V) + signal
    into_bins[cell] = value
    into_bins[cell + V] = 1.0
    _figures(age_ms, row * V + signal, value, _sums_where(kept, sums), window.figures)
    return window


def _sums_where(chosen: NDArray[np.bool_], sums: Sums | None) -> Sums | None:
    return sums if sums is None else Sums(*_where(chosen, *(getattr(sums, one.name) for one in fields(Sums))))


def _where(chosen: NDArray[np.bool_], *arrays: NDArray[Any]) -> Sequence[NDArray[Any]]:
    """The chosen entries of each; most often all are."""
    return arrays if chosen.all() else [array[chosen] for array in arrays]


def _figures(
    age_ms: NDArray[np.int64],
    place: NDArray[np.int64],
    value: NDArray[np.float32],
    runs: Sums | None,
    into: NDArray[np.float32],
) -> None:
    """[B, F, V] of measurements inside the windows, at `place` in [B, V]: sums of disjoint stretches of time, then of ever
    longer horizons."""
    if not len(value):
        return
    b = len(into)
    cell = place * H + (H - 1)  # in [B, V, H], the newest stretch first
    for hours in HORIZONS_H[:-1]:
        cell -= age_ms < hours * HOUR_MS
    number, size = value.astype(np.float64), b * V * H
    sums = np.empty((3, size))  # of ones, numbers and squares in each stretch
    weights = (None, number, number * number) if runs is None else (runs.count, runs.total, runs.square)
    for place_in_sums, weight in enumerate(weights):
        sums[place_in_sums] = np.bincount(cell, weight, size)
    ends = np.empty((2, size))
    ends[0], ends[1] = np.inf, -np.inf
    np.minimum.at(ends[0], cell, number if runs is None else runs.low)
    np.maximum.at(ends[1], cell, number if runs is None else runs.high)
    count, total, square = np.cumsum(sums.reshape(3, b, V, H).transpose(0, 1, 3, 2), axis=2)
    low, high = ends.reshape(2, b, V, H).transpose(0, 1, 3, 2)  # [B, H, V], the newest stretch first
    low, high = np.minimum.accumulate(low, axis=1), np.maximum.accumulate(high, axis=1)
    none = count == 0
    mean = total / np.maximum(count, 1)
    low[none] = 0.0
    high[none] = 0.0
    spread = np.sqrt(np.maximum(square[:, -1:] / np.maximum(count[:, -1:], 1) - mean[:, -1:] ** 2, 0.0))
    first = np.zeros(b * V)
    first[place[::-1]] = (value if runs is None else runs.first)[::-1]
    np.concatenate([count, mean, low, high, spread, first.reshape(b, 1, V)], axis=1, out=into, casting="same_kind")


def stack(windows: Sequence[PatientWindow]) -> WindowBatch:
    """A batch of windows, in order."""
    if len(windows) == 1:  # the live path's most frequent batch, without copies
        return WindowBatch(*(getattr(windows[0], name)[None] for name in WINDOW_FIELDS))
    return WindowBatch(*(np.stack([getattr(window, name) for window in windows]) for name in WINDOW_FIELDS))
