"""What the model sees of a patient's measurements: the 48 h that end at an anchor. NumPy only.

Shapes: T two-hour bins, V signals, F figures (`FIGURES`), B patients. Values are in canonical units; normalisation is
inside the network. The anchor is the newest measurement, so that the vitals' embedding depends on the measurements
alone and can be cached; how old they are by now is told to the fusion as the token's age.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
    """Observations, ascending in time within each signal, as a window that ends at `anchor_ms`.

    Observations after the anchor are left out: the window never sees the future.
    """
    values = np.zeros((BINS, V), np.float32)
    mask = np.zeros((BINS, V), np.float32)
    last = np.zeros(V, np.float32)
    last_age_h = np.zeros(V, np.float32)
    last_mask = np.zeros(V, np.float32)
    static = _STATIC[signal]
    seen = (time_ms <= anchor_ms) | static
    if not seen.all():
        time_ms, signal, value, static = time_ms[seen], signal[seen], value[seen], static[seen]
    age_ms = anchor_ms - time_ms
    last[signal] = value  # of repeated indices NumPy keeps the last assignment
    last_age_h[signal] = np.where(_TIMELESS[signal], 0.0, np.maximum(age_ms, 0) / HOUR_MS)
    last_mask[signal] = 1.0
    inside = (age_ms < HOURS * HOUR_MS) & ~static
    age_ms, signal, value = age_ms[inside], signal[inside], value[inside]
    step = BINS - 1 - age_ms // BIN_MS
    values[step, signal] = value
    mask[step, signal] = 1.0
    return PatientWindow(values, mask, last, last_age_h, last_mask, _figures(age_ms, signal, value))


def _figures(age_ms: NDArray[np.int64], signal: NDArray[np.int64], value: NDArray[np.float32]) -> NDArray[np.float32]:
    """[F, V] of measurements inside the window: sums of disjoint stretches of time, then of ever longer horizons."""
    if not len(value):
        return np.zeros((F, V), np.float32)
    stretch = np.zeros(len(value), np.int16)  # 0 is the oldest
    for hours in HORIZONS_H[:-1]:
        stretch += age_ms < hours * HOUR_MS
    cell = signal.astype(np.int16) * H + stretch
    order = np.argsort(cell, kind="stable")
    cell, number = cell[order], value[order].astype(np.float64)
    begins = np.concatenate([[0], np.flatnonzero(np.diff(cell)) + 1])
    at = cell[begins]
    grid = np.zeros((5, V * H))
    grid[3], grid[4] = np.inf, -np.inf
    grid[0, at] = np.diff(np.append(begins, len(cell)))
    grid[1, at] = np.add.reduceat(number, begins)
    grid[2, at] = np.add.reduceat(number * number, begins)
    grid[3, at] = np.minimum.reduceat(number, begins)
    grid[4, at] = np.maximum.reduceat(number, begins)
    by_stretch = grid.reshape(5, V, H)[:, :, ::-1].transpose(0, 2, 1)  # [5, H, V], newest first
    count, total, square = np.cumsum(by_stretch[:3], axis=1)
    low = np.minimum.accumulate(by_stretch[3], axis=0)
    high = np.maximum.accumulate(by_stretch[4], axis=0)
    none = count == 0
    mean = total / np.maximum(count, 1)
    low[none] = 0.0
    high[none] = 0.0
    spread = np.sqrt(np.maximum(square[-1] / np.maximum(count[-1], 1) - mean[-1] ** 2, 0.0))
    first = np.zeros(V)
    first[signal[order][::-1]] = number[::-1]
    return np.concatenate([count, mean, low, high, spread[None], first[None]]).astype(np.float32)


def stack(windows: Sequence[PatientWindow]) -> WindowBatch:
    """A batch of windows, in order."""
    if len(windows) == 1:  # the live path's most frequent batch, without copies
        return WindowBatch(*(getattr(windows[0], name)[None] for name in WINDOW_FIELDS))
    return WindowBatch(*(np.stack([getattr(window, name) for window in windows]) for name in WINDOW_FIELDS))
