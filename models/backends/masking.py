"""What every backend's `fuse` shares: the rows for mask-out contributions, and logits to a `Fused`."""

import numpy as np
from numpy.typing import NDArray

from models.calibration import Calibration
from models.predictor import F32, Fused
from models.window import MODALITIES, SLOTS

_OF_MODALITY = np.array([[slot == name for slot in SLOTS] for name in MODALITIES], np.float32)  # [M, S]


Masked = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Of each masked row: the row it was made from, and the modality that was masked in it."""


def masked_rows(tokens: F32, present: F32, age_h: F32) -> tuple[F32, F32, F32, Masked]:
    """[B + masked, ...]: every row as it is, then once for each modality it has with that modality masked."""
    row, modality = np.nonzero(present @ _OF_MODALITY.T)
    return (
        np.concatenate([tokens, tokens[row]]),
        np.concatenate([present, present[row] * (1 - _OF_MODALITY[modality])]),
        np.concatenate([age_h, age_h[row]]),
        (row, modality),
    )


def to_fused(logits: NDArray[np.float32], masked: Masked, calibration: Calibration) -> Fused:
    """Logits [B + masked, C] of `masked_rows` as calibrated probabilities and contributions."""
    row, modality = masked
    rows = len(logits) - len(row)
    probability = calibration.probability(logits)
    low, high = calibration.interval(logits[:rows])
    contribution = np.zeros((rows, logits.shape[1], len(MODALITIES)), np.float32)
    contribution[row, :, modality] = probability[row] - probability[rows:]
    return Fused(probability[:rows], low, high, contribution)
