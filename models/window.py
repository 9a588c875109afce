"""What the model sees of a patient's measurements: the 48 h that end at an anchor. NumPy only.

Shapes: T two-hour bins, V signals, F figures (`FIGURES`), B patients. Values are in canonical units; normalisation is
inside the network. The anchor is the newest measurement, so that the vitals' embedding depends on the measurements
alone and can be cached; how old they are by now is told to the fusion as the token's age.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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

MODALITIES = ("vitals", "notes", "scans")
MAX_NOTES = 3
MAX_SERIES = 3
SLOTS = ("vitals", *("notes",) * MAX_NOTES, *("scans",) * MAX_SERIES)
"""Tokens of the fusion, newest first within a modality; a scan slot is one series."""

_STATIC = np.array([signal.kind == "static" for signal in SIGNALS])
_TIMELESS = _STATIC & (np.arange(V) != by_name["unit"])
"""Static facts whose time means nothing; the unit's is when it took the patient."""


@dataclass(frozen=True, slots=True)
class PatientWindow:
    """One patient's measurements.

    values, mask: f32 [T, V]; the last bin ends at the anchor; of several values in a bin the newest.
    last, last_age_h, last_mask: f32 [V]; the newest value of each signal, static ones too, and its age in hours.
    figures: f32 [F, V]; see `FIGURES`.
    """

    values: NDArray[np.float32]
    mask: NDArray[np.float32]
    last: NDArray[np.float32]
    last_age_h: NDArray[np.float32]
    last_mask: NDArray[np.float32]
    figures: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """The same fields with a leading B."""

    values: NDArray[np.float32]
    mask: NDArray[np.float32]
    last: NDArray[np.float32]
    last_age_h: NDArray[np.float32]
    last_mask: NDArray[np.float32]
    figures: NDArray[np.float32]


WINDOW_FIELDS = ("values", "mask", "last", "last_age_h", "last_mask", "figures")
"""In the order in which encoders take them."""


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
) -> WindowBatch:
    """Windows that end at `anchor_ms` [B], of observations of row `row`, ascending in time within each row and signal.

    Observations after the anchor are left out: the window never sees the future.
    """
    b = len(anchor_ms)
    place = row * V + signal  # in [B, V], flat: of repeated places NumPy keeps the last assignment
    age_ms = anchor_ms[row] - time_ms
    static = _STATIC[signal]
    age_ms, place, value, static = _where((age_ms >= 0) | static, age_ms, place, value, static)
    last, last_age_h, last_mask = (np.zeros(b * V, np.float32) for _ in range(3))
    last[place] = value
    last_age_h[place] = np.maximum(age_ms, 0) / HOUR_MS
    last_age_h.reshape(b, V)[:, _TIMELESS] = 0.0
    last_mask[place] = 1.0
    age_ms, place, value = _where((age_ms < HOURS * HOUR_MS) & ~static, age_ms, place, value)
    step = BINS - 1 - age_ms // BIN_MS
    cell = (place // V * BINS + step) * V + place % V
    values, mask = (np.zeros(b * BINS * V, np.float32) for _ in range(2))
    values[cell] = value
    mask[cell] = 1.0
    return WindowBatch(
        values=values.reshape(b, BINS, V),
        mask=mask.reshape(b, BINS, V),
        last=last.reshape(b, V),
        last_age_h=last_age_h.reshape(b, V),
        last_mask=last_mask.reshape(b, V),
        figures=_figures(age_ms, place, value, b),
    )


def _where(chosen: NDArray[np.bool_], *arrays: NDArray[Any]) -> Sequence[NDArray[Any]]:
    """The chosen entries of each; most often all are."""
    return arrays if chosen.all() else [array[chosen] for array in arrays]


def _figures(
    age_ms: NDArray[np.int64], place: NDArray[np.int64], value: NDArray[np.float32], b: int
) -> NDArray[np.float32]:
    """[B, F, V] of measurements inside the windows: sums of disjoint stretches of time, then of ever longer horizons."""
    if not len(value):
        return np.zeros((b, F, V), np.float32)
    cell = place * H + (H - 1)  # in [B, V, H], the newest stretch first
    for hours in HORIZONS_H[:-1]:
        cell -= age_ms < hours * HOUR_MS
    order = np.argsort(cell, kind="stable")
    cell, number = cell[order], value[order].astype(np.float64)
    begins = np.concatenate([[0], np.flatnonzero(cell[1:] != cell[:-1]) + 1])
    at = cell[begins]
    grid = np.zeros((5, b * V * H))
    grid[3], grid[4] = np.inf, -np.inf
    grid[0, at] = np.append(begins[1:], len(cell)) - begins
    grid[1, at] = np.add.reduceat(number, begins)
    grid[2, at] = np.add.reduceat(number * number, begins)
    grid[3, at] = np.minimum.reduceat(number, begins)
    grid[4, at] = np.maximum.reduceat(number, begins)
    by_stretch = grid.reshape(5, b, V, H).transpose(0, 1, 3, 2)  # [5, B, H, V]
    count, total, square = np.cumsum(by_stretch[:3], axis=2)
    low = np.minimum.accumulate(by_stretch[3], axis=1)
    high = np.maximum.accumulate(by_stretch[4], axis=1)
    none = count == 0
    mean = total / np.maximum(count, 1)
    low[none] = 0.0
    high[none] = 0.0
    spread = np.sqrt(np.maximum(square[:, -1:] / np.maximum(count[:, -1:], 1) - mean[:, -1:] ** 2, 0.0))
    first = np.zeros(b * V)
    first[place[::-1]] = value[::-1]
    return np.concatenate([count, mean, low, high, spread, first.reshape(b, 1, V)], axis=1, dtype=np.float32)


def stack(windows: Sequence[PatientWindow]) -> WindowBatch:
    """A batch of windows, in order."""
    if len(windows) == 1:  # the live path's most frequent batch, without copies
        return WindowBatch(*(getattr(windows[0], name)[None] for name in WINDOW_FIELDS))
    return WindowBatch(*(np.stack([getattr(window, name) for window in windows]) for name in WINDOW_FIELDS))
