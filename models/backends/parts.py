"""What every backend shares: the seam's calls as runs of the four parts, and fused logits as probabilities."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from tokenizers import Tokenizer

from models import inputs
from models.artifact import Artifact
from models.predictor import F32, Fused
from models.window import OF_MODALITY, WindowBatch


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
        """The part's one output, f32 [B, ...], of its inputs: `Network.part`."""

    def encode_vitals(self, batch: WindowBatch) -> F32:
        return self.run("vitals", inputs.of_vitals(batch))

    def encode_notes(self, texts: Sequence[str]) -> F32:
        return self.run("notes", inputs.of_notes(self.tokenizer, texts))

    def encode_scans(self, pixels: F32, kinds: Sequence[str]) -> F32:
        return self.run("scans", inputs.of_scans(pixels, kinds))

    def fuse(self, tokens: F32, present: F32, age_h: F32) -> Fused:
        logits = self.run("fusion", inputs.of_fusion(tokens, present, age_h))  # [B, 1 + M, C]
        probability, low, high = self._calibration.with_interval(logits)
        there = present @ OF_MODALITY > 0  # [B, M]
        contribution = (probability[:, :1] - probability[:, 1:]).transpose(0, 2, 1) * there[:, None]
        return Fused(probability[:, 0], low, high, contribution)
