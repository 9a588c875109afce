"""The seam between the live path and a model: `Predictor`. Owns shapes and meanings; backends implement it.

Shapes: B rows, D width, S slots (`window.SLOTS`), C conditions, M modalities (`window.MODALITIES`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.conformal import Conformal
from models.window import WindowBatch

F32 = NDArray[np.float32]

LEVELS = ("watch", "warning", "critical")


@dataclass(frozen=True, slots=True)
class Card:
    """What the live path needs to know of an artifact. `thresholds[condition][level]` are probabilities.

    Without `conformal` the artifact has no prediction sets and never abstains.
    """

    model_hash: str
    encoder_hashes: Mapping[str, str]  # per modality
    conditions: tuple[str, ...]
    width: int
    thresholds: Mapping[str, Mapping[str, float]]
    conformal: Conformal | None = None


@dataclass(frozen=True, slots=True)
class Fused:
    """Calibrated probabilities with their 95 % interval, and what each modality contributed.

    `contribution[b, c, m]` is the probability with all modalities minus that with modality m masked; 0 when absent.
    """

    probability: F32  # [B, C]
    low: F32  # [B, C]
    high: F32  # [B, C]
    contribution: F32  # [B, C, M]


class Predictor(Protocol):
    """Fixed: every method is deterministic, independent of the batch's other rows (in fp32 to 1e-6, else to its
    precision's tolerance, `golden.TOLERANCES`), releases the GIL, and is called from one thread. An absent slot's
    content changes nothing; with all slots absent the score is finite.
    """

    card: Card

    def encode_vitals(self, batch: WindowBatch) -> F32:
        """[B, D]"""
        ...

    def encode_notes(self, texts: Sequence[str]) -> F32:
        """[B, D]; any text, the tokenizer is the artifact's."""
        ...

    def encode_scans(self, pixels: F32, kinds: Sequence[str]) -> F32:
        """[B, D] of pixels f32 [B, 224, 224] in 0..1 and their DICOM modalities (CR, DX, CT, MR, ...)."""
        ...

    def fuse(self, tokens: F32, present: F32, age_h: F32) -> Fused:
        """tokens [B, S, D]; present [B, S] of 0 and 1; age_h [B, S] hours since each token's newest item."""
        ...
