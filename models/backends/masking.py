"""What every backend's `fuse` shares: the rows for mask-out contributions, and logits to a `Fused`."""

import numpy as np
from numpy.typing import NDArray

from models.calibration import Calibration
from models.predictor import F32, Fused
from models.window import MODALITIES, SLOTS

_OF_MODALITY = np.array([[slot == name for slot in SLOTS] for name in MODALITIES], np.float32)  # [M, S]


def masked_rows(tokens: F32, present: F32, age_h: F32) -> tuple[F32, F32, F32]:
    """[(1 + M) * B, ...]: every row as it is, then once for each modality with that modality masked."""
    variants = np.concatenate([present[None], present[None] * (1 - _OF_MODALITY[:, None])])
    times = len(MODALITIES) + 1
    return (
        np.tile(tokens, (times, 1, 1)),
        variants.reshape(-1, len(SLOTS)).astype(np.float32),
        np.tile(age_h, (times, 1)),
    )


def to_fused(logits: NDArray[np.float32], rows: int, present: F32, calibration: Calibration) -> Fused:
    """Logits [(1 + M) * B, C] of `masked_rows` as calibrated probabilities and contributions."""
    shaped = logits.reshape(len(MODALITIES) + 1, rows, -1)
    probability = calibration.probability(shaped)
    low, high = calibration.interval(shaped[0])
    here = (present @ _OF_MODALITY.T) > 0  # [B, M]
    contribution = np.moveaxis(probability[0] - probability[1:], 0, -1) * here[:, None, :]
    return Fused(probability[0], low, high, contribution.astype(np.float32))
