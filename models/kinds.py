"""DICOM modalities as a one-hot input, without torch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

KINDS = ("CR", "DX", "CT", "MR", "other")


def one_hot(kinds: Sequence[str]) -> NDArray[np.float32]:
    """[B, K]; an unknown modality is `other`."""
    found = np.zeros((len(kinds), len(KINDS)), np.float32)
    for row, kind in enumerate(kinds):
        found[row, KINDS.index(kind) if kind in KINDS else len(KINDS) - 1] = 1.0
    return found
