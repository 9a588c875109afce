"""What the model sees of a patient's measurements: 48 hourly steps back from an anchor. NumPy only.

Shapes: T hours, V signals, B patients. Values are in canonical units; normalisation is inside the network.
The anchor is the newest measurement, so that the vitals' embedding depends on the measurements alone and can be
cached; how old they are by now is told to the fusion as the token's age.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.signals import SIGNALS

HOURS = 48
HOUR_MS = 3_600_000
V = len(SIGNALS)

MODALITIES = ("vitals", "notes", "scans")
MAX_NOTES = 3
MAX_SERIES = 3
SLOTS = ("vitals", *("notes",) * MAX_NOTES, *("scans",) * MAX_SERIES)
"""Tokens of the fusion, newest first within a modality; a scan slot is one series."""

_STATIC = np.array([signal.kind == "static" for signal in SIGNALS])


@dataclass(frozen=True, slots=True)
class PatientWindow:
    """One patient's measurements.

    values, mask: f32 [T, V]; step 47 is the hour that ends at the anchor; of several values in an hour the newest.
    last, last_age_h, last_mask: f32 [V]; the newest value of each signal, static ones too, and its age in hours.
    """

    values: NDArray[np.float32]
    mask: NDArray[np.float32]
    last: NDArray[np.float32]
    last_age_h: NDArray[np.float32]
    last_mask: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """The same fields with a leading B."""

    values: NDArray[np.float32]
    mask: NDArray[np.float32]
    last: NDArray[np.float32]
    last_age_h: NDArray[np.float32]
    last_mask: NDArray[np.float32]


def build_window(
    time_ms: NDArray[np.int64], signal: NDArray[np.int64], value: NDArray[np.float32], anchor_ms: int
) -> PatientWindow:
    """Observations, ascending in time within each signal, as a window that ends at `anchor_ms`.

    Observations after the anchor are left out: the window never sees the future.
    """
    values = np.zeros((HOURS, V), np.float32)
    mask = np.zeros((HOURS, V), np.float32)
    last = np.zeros(V, np.float32)
    last_age_h = np.zeros(V, np.float32)
    last_mask = np.zeros(V, np.float32)
    static = _STATIC[signal]
    seen = (time_ms <= anchor_ms) | static
    time_ms, signal, value, static = time_ms[seen], signal[seen], value[seen], static[seen]
    last[signal] = value  # of repeated indices NumPy keeps the last assignment
    last_age_h[signal] = np.where(static, 0.0, (anchor_ms - time_ms) / HOUR_MS)
    last_mask[signal] = 1.0
    step = HOURS - 1 - (anchor_ms - time_ms) // HOUR_MS
    inside = (step >= 0) & ~static
    values[step[inside], signal[inside]] = value[inside]
    mask[step[inside], signal[inside]] = 1.0
    return PatientWindow(values, mask, last, last_age_h, last_mask)


def stack(windows: Sequence[PatientWindow]) -> WindowBatch:
    """A batch of windows, in order."""
    if len(windows) == 1:  # the live path's most frequent batch, without copies
        w = windows[0]
        return WindowBatch(w.values[None], w.mask[None], w.last[None], w.last_age_h[None], w.last_mask[None])
    return WindowBatch(
        values=np.stack([w.values for w in windows]),
        mask=np.stack([w.mask for w in windows]),
        last=np.stack([w.last for w in windows]),
        last_age_h=np.stack([w.last_age_h for w in windows]),
        last_mask=np.stack([w.last_mask for w in windows]),
    )
