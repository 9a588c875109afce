"""ONNX Runtime on the CPU: the default backend. The only importer of onnxruntime; never imports torch."""

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

from models.artifact import PARTS, Artifact
from models.backends.masking import masked_rows, to_fused
from models.kinds import one_hot
from models.predictor import F32, Fused
from models.tokens import tokenize
from models.window import WINDOW_FIELDS, WindowBatch


class OnnxPredictor:
    """One one-thread session per part: several threads would spin against each other and the event loop."""

    def __init__(self, artifact: Artifact) -> None:
        self.card = artifact.card
        self._calibration = artifact.calibration
        self._tokenizer = Tokenizer.from_str(artifact.contents["tokenizer.json"].decode())
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._sessions = {
            part: ort.InferenceSession(artifact.contents[f"{part}.onnx"], options, ["CPUExecutionProvider"])
            for part in PARTS
        }

    def encode_vitals(self, batch: WindowBatch) -> F32:
        return self._run("vitals", **{name: getattr(batch, name) for name in WINDOW_FIELDS})

    def encode_notes(self, texts: Sequence[str]) -> F32:
        return self._run("notes", ids=tokenize(self._tokenizer, texts))

    def encode_scans(self, pixels: F32, kinds: Sequence[str]) -> F32:
        return self._run("scans", pixels=np.ascontiguousarray(pixels[:, None]), kind=one_hot(kinds))

    def fuse(self, tokens: F32, present: F32, age_h: F32) -> Fused:
        all_tokens, all_present, all_ages, masked = masked_rows(tokens, present, age_h)
        logits = self._run("fusion", tokens=all_tokens, present=all_present, age_h=all_ages)
        return to_fused(logits, masked, self._calibration)

    def _run(self, part: str, **inputs: np.ndarray) -> F32:
        return self._sessions[part].run(None, inputs)[0]
