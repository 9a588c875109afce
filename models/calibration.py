"""Logits to calibrated probabilities with an interval. NumPy only.

Platt scaling per condition; the interval is the 2.5 to 97.5 percentile over calibrators fitted to bootstrap samples of
the validation patients. So it says how well the calibration is known, not how ill the patient might be.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


_ENDS = np.array([0.025, 0.975])


@dataclass(frozen=True, slots=True)
class Calibration:
    """scale, shift: [K, C]; row 0 is the fit to all validation patients, the others to bootstrap samples."""

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]

    def probability(self, logits: NDArray[np.floating]) -> F32:
        """[..., C]"""
        return _sigmoid(logits * self.scale[0] + self.shift[0]).astype(np.float32)

    def interval(self, logits: NDArray[np.floating], probability: F32) -> tuple[F32, F32]:
        """Lower and upper end, [B, C] each; always around the probability itself."""
        # The sigmoid ascends: sorted before it, only the few numbers that a quantile lies between go through it.
        spread = np.multiply(logits[..., None], self.scale[1:].T, order="C")  # [B, C, K]
        spread += self.shift[1:].T
        spread.sort()
        last = spread.shape[-1] - 1
        place = _ENDS * last
        below = place.astype(np.intp)
        told = _sigmoid(spread.take(np.concatenate([below, np.minimum(below + 1, last)]), -1))
        # As np.quantile, which costs several times the score itself: linear between the two nearest.
        ends = (told[..., :2] + (place - below) * (told[..., 2:] - told[..., :2])).astype(np.float32)
        return np.minimum(ends[..., 0], probability), np.maximum(ends[..., 1], probability)


def _sigmoid(x: NDArray[np.floating]) -> NDArray[np.float64]:
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(x, np.float64)))
