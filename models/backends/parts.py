"""What every backend shares: the seam's calls as runs of the four parts, and fused logits as probabilities."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from tokenizers import Tokenizer

from models import inputs
from models.artifact import Artifact
from models.backends.masking import masked_rows, to_fused
from models.predictor import F32, Fused
from models.window import SLOTS, WindowBatch


class BackendUnavailable(Exception):
    """This machine or environment cannot run the backend; the text says in one line what is missing."""


class PartsPredictor(ABC):
    """A `Predictor` over `run`: a backend only says how a part is run."""

    def __init__(self, artifact: Artifact) -> None:
        self.card = artifact.card
        self.tokenizer = Tokenizer.from_str(artifact.contents["tokenizer.json"].decode())
        self._calibration = artifact.calibration

    @abstractmethod
    def run(self, part: str, given: inputs.Inputs) -> F32:
        """The part's one output, f32 [B, ...], of its inputs."""

    def encode_vitals(self, batch: WindowBatch) -> F32:
        return self.run("vitals", inputs.of_vitals(batch))

    def encode_notes(self, texts: Sequence[str]) -> F32:
        return self.run("notes", inputs.of_notes(self.tokenizer, texts))

    def encode_scans(self, pixels: F32, kinds: Sequence[str]) -> F32:
        return self.run("scans", inputs.of_scans(pixels, kinds))

    def fuse(self, tokens: F32, present: F32, age_h: F32) -> Fused:
        *rows, masked = masked_rows(tokens, present, age_h)
        return to_fused(self.run("fusion", inputs.of_fusion(*rows)), masked, self._nothing, self._calibration)

    @cached_property
    def _nothing(self) -> F32:
        """[C] probabilities of a patient of whom nothing is present, which no token or age can change."""
        slots = np.zeros((1, len(SLOTS)), np.float32)
        tokens = np.zeros((1, len(SLOTS), self.card.width), np.float32)
        return self._calibration.probability(self.run("fusion", inputs.of_fusion(tokens, slots, slots)))[0]
