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
    """scale, shift: [K, C]; row 0 is the fit to all validation patients, the others to bootstrap samples. Without samples
    the interval has no width.

    As the logistic function is a tanh, everything is kept for half the log odds: `_half` is the fit's scale and shift, and
    the interval's half width of a logit x is the root of (a x + b) x + c, of `_width` (a, b, c); [C] each.
    """

    scale: F64
    shift: F64
    _half: tuple[F32, F32] = field(init=False, repr=False, compare=False)
    _width: tuple[F64, F64, F64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_half", tuple((x[0] / 2).astype(np.float32) for x in (self.scale, self.shift)))
        scale, shift = (x[1:] - x[1:].mean(0) if len(x) > 1 else x[1:] for x in (self.scale, self.shift))
        spreads = (SPREADS / 2) ** 2 / max(len(scale) - 1, 1)
        squares = [(one * other).sum(0) * spreads for one, other in ((scale, scale), (scale, shift), (shift, shift))]
        object.__setattr__(self, "_width", (squares[0], 2 * squares[1], squares[2] + LEAST))

    def probability(self, logits: NDArray[np.floating]) -> F32:
        """[..., C]"""
        scale, shift = self._half
        half_odds = logits.astype(np.float32) * scale
        half_odds += shift
        return _logistic(half_odds)

    def with_interval(self, logits: F32) -> tuple[F32, F32, F32]:
        """Of logits [B, X, C] all probabilities, and of the first of X the interval's lower and upper end, [B, C] each."""
        (scale, shift), (a, b, c) = self._half, self._width
        rows, each, conditions = logits.shape
        told = np.empty((rows, each + 2, conditions), np.float32)
        half_odds = told[:, 2:]
        np.multiply(logits, scale, out=half_odds)
        half_odds += shift
        first, middle = logits[:, 0], told[:, 2]
        width = np.sqrt((a * first + b) * first + c)
        np.subtract(middle, width, out=told[:, 0], casting="same_kind")
        np.add(middle, width, out=told[:, 1], casting="same_kind")
        _logistic(told)
        return half_odds, told[:, 0], told[:, 1]


def _logistic(half_odds: F32) -> F32:
    """In place: of a few numbers every array made costs more than its arithmetic."""
    np.tanh(half_odds, out=half_odds)
    half_odds *= 0.5
    half_odds += 0.5
    return half_odds
