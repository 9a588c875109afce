"""What every backend's `fuse` shares: the rows for mask-out contributions, and logits to a `Fused`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.calibration import Calibration
from models.predictor import F32, Fused
from models.window import MODALITIES, SLOTS

_OF_MODALITY = np.array([[slot == name for slot in SLOTS] for name in MODALITIES], np.float32)  # [M, S]

Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Masked:
    """Of each masked row: the row it was made from, and the modality that was masked in it. Of each row with a single
    modality: itself and that modality; with it masked nothing is left, which needs no row of its own.
    """

    row: Places
    modality: Places
    alone: Places
    of_alone: Places


def masked_rows(tokens: F32, present: F32, age_h: F32) -> tuple[F32, F32, F32, Masked]:
    """[B + masked, ...]: every row as it is, then once for each of its modalities, where it has several, without it."""
    row, modality = np.nonzero(present @ _OF_MODALITY.T)
    several = np.bincount(row, minlength=len(present))[row] > 1
    masked = Masked(row[several], modality[several], row[~several], modality[~several])
    row, modality = masked.row, masked.modality
    if not len(row):
        return tokens, present, age_h, masked
    return (
        np.concatenate([tokens, tokens[row]]),
        np.concatenate([present, present[row] * (1 - _OF_MODALITY[modality])]),
        np.concatenate([age_h, age_h[row]]),
        masked,
    )


def to_fused(logits: NDArray[np.float32], masked: Masked, nothing: F32, calibration: Calibration) -> Fused:
    """Logits [B + masked, C] of `masked_rows` as calibrated probabilities and contributions.

    `nothing` [C]: the probabilities of a row of which nothing is present.
    """
    rows = len(logits) - len(masked.row)
    probability = calibration.probability(logits)
    low, high = calibration.interval(logits[:rows], probability[:rows])
    contribution = np.zeros((rows, logits.shape[1], len(MODALITIES)), np.float32)
    if len(masked.row):
        contribution[masked.row, :, masked.modality] = probability[masked.row] - probability[rows:]
    if len(masked.alone):
        contribution[masked.alone, :, masked.of_alone] = probability[masked.alone] - nothing
    return Fused(probability[:rows], low, high, contribution)
