"""Logits to calibrated probabilities with an interval. NumPy only.

Platt scaling per condition; the interval is the 2.5 to 97.5 percentile over calibrators fitted to bootstrap samples of
the validation patients. So it says how well the calibration is known, not how ill the patient might be.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Calibration:
    """scale, shift: [K, C]; row 0 is the fit to all validation patients, the others to bootstrap samples."""

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]

    def probability(self, logits: NDArray[np.floating]) -> F32:
        """[..., C]"""
        return _sigmoid(logits * self.scale[0] + self.shift[0]).astype(np.float32)

    def interval(self, logits: NDArray[np.floating]) -> tuple[F32, F32]:
        """Lower and upper end, [B, C] each; always around the probability itself."""
        # The sigmoid ascends: sorted before it, only the few numbers that a quantile lies between go through it.
        spread = np.sort(logits[..., None] * self.scale[1:].T + self.shift[1:].T)  # [B, C, K]
        last = spread.shape[-1] - 1
        places = [share * last for share in (0.025, 0.975)]
        below = [int(place) for place in places]
        asked = [*below, *(min(one + 1, last) for one in below)]
        low, high, above_low, above_high = np.moveaxis(_sigmoid(spread[..., asked]), -1, 0)
        # As np.quantile, which costs several times the score itself: linear between the two nearest.
        low = low + (places[0] - below[0]) * (above_low - low)
        high = high + (places[1] - below[1]) * (above_high - high)
        middle = _sigmoid(logits * self.scale[0] + self.shift[0])
        return np.minimum(low, middle).astype(np.float32), np.maximum(high, middle).astype(np.float32)


def _sigmoid(x: NDArray[np.floating]) -> NDArray[np.float64]:
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(x, np.float64)))
