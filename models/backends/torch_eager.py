"""torch, eager, on the CPU: the reference that every other backend must equal."""

from pathlib import Path

import torch

from models.artifact import PARTS, Artifact
from models.backends.parts import PartsPredictor
from models.inputs import Inputs, contiguous
from models.predictor import F32
from models.program import build_network


class TorchPredictor(PartsPredictor):
    """The network as it was trained."""

    def __init__(self, artifact: Artifact, precision: str = "fp32", cache: Path | None = None) -> None:
        super().__init__(artifact)
        network = build_network(artifact)
        self._parts = {part: network.part(part) for part in PARTS}

    def run(self, part: str, inputs: Inputs) -> F32:
        with torch.inference_mode():
            return self._parts[part](*(torch.from_numpy(array) for array in contiguous(inputs).values())).numpy()
