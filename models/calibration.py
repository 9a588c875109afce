"""Logits to calibrated probabilities with an interval. NumPy only.

Platt scaling per condition; the interval rests on calibrators fitted to bootstrap samples of the validation patients: 1.96
standard deviations of their log odds on both sides. So it says how well the calibration is known, not how ill the patient
might be. (Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 12; percentiles of a few tens of samples
hang on one or two of them.)
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

SPREADS = 1.96
LEAST = 1e-12
"""Keeps a width that is 0 from rounding to below it."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """scale, shift: [K, C]; row 0 is the fit to all validation patients, the others to bootstrap samples.

    The interval's half width, in log odds, of a logit x is the root of (a x + b) x + c, of `_width` (a, b, c), [C] each.
    """

    scale: F64
    shift: F64
    _width: tuple[F64, F64, F64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        scale, shift = self.scale[1:] - self.scale[1:].mean(0), self.shift[1:] - self.shift[1:].mean(0)
        spreads = SPREADS**2 / max(len(scale) - 1, 1)
        squares = [(one * other).sum(0) * spreads for one, other in ((scale, scale), (scale, shift), (shift, shift))]
        object.__setattr__(self, "_width", (squares[0], 2 * squares[1], squares[2] + LEAST))

    def probability(self, logits: NDArray[np.floating]) -> F32:
        """[..., C]"""
        odds = logits * self.scale[0] + self.shift[0]
        return _sigmoid(odds).astype(np.float32)

    def with_interval(self, logits: NDArray[np.floating]) -> tuple[F32, F32, F32]:
        """Of logits [B, X, C] all probabilities, and of the first of X the interval's lower and upper end, [B, C] each."""
        a, b, c = self._width
        rows, each, conditions = logits.shape
        odds = np.empty((rows, each + 2, conditions))
        np.multiply(logits, self.scale[0], out=odds[:, 2:])
        odds[:, 2:] += self.shift[0]
        first = logits[:, 0]
        half = np.sqrt((a * first + b) * first + c)
        np.subtract(odds[:, 2], half, out=odds[:, 0])
        np.add(odds[:, 2], half, out=odds[:, 1])
        told = _sigmoid(odds).astype(np.float32)
        return told[:, 2:], told[:, 0], told[:, 1]


def _sigmoid(odds: F64) -> F64:
    """In place: on a few numbers every array made costs more than its arithmetic."""
    odds *= 0.5
    np.tanh(odds, out=odds)
    odds += 1.0
    odds *= 0.5
    return odds
