"""torch, eager, on the CPU: the reference that every other backend must equal."""

from collections.abc import Sequence

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from tokenizers import Tokenizer

from models.artifact import Artifact
from models.backends.masking import masked_rows, to_fused
from models.kinds import one_hot
from models.network import Architecture, Network
from models.predictor import F32, Fused
from models.tokens import tokenize
from models.window import WINDOW_FIELDS, WindowBatch


class TorchPredictor:
    """The network as it was trained."""

    def __init__(self, artifact: Artifact) -> None:
        self.card = artifact.card
        self._calibration = artifact.calibration
        self._tokenizer = Tokenizer.from_str(artifact.contents["tokenizer.json"].decode())
        settings = dict(artifact.architecture)
        settings |= {name: tuple(settings[name]) for name in ("conditions", "boosted")}
        self._network = Network(Architecture(**settings))
        self._network.load_state_dict(load_safetensors(artifact.contents["model.safetensors"]))
        self._network.eval()

    def encode_vitals(self, batch: WindowBatch) -> F32:
        return self._run(self._network.vitals, *(getattr(batch, name) for name in WINDOW_FIELDS))

    def encode_notes(self, texts: Sequence[str]) -> F32:
        return self._run(self._network.notes, tokenize(self._tokenizer, texts))

    def encode_scans(self, pixels: F32, kinds: Sequence[str]) -> F32:
        return self._run(self._network.scans, pixels[:, None], one_hot(kinds))

    def fuse(self, tokens: F32, present: F32, age_h: F32) -> Fused:
        *inputs, masked = masked_rows(tokens, present, age_h)
        return to_fused(self._run(self._network.fusion, *inputs), masked, self._calibration)

    def _run(self, part: torch.nn.Module, *inputs: np.ndarray) -> F32:
        with torch.inference_mode():
            return part(*(torch.from_numpy(np.ascontiguousarray(array)) for array in inputs)).numpy()
