"""ONNX Runtime on the CPU: the default backend and everybody's fall-back. The only importer of onnxruntime; no torch."""

from pathlib import Path

import onnxruntime as ort

from models.artifact import PARTS, WALKED, Artifact
from models.backends.parts import PartsPredictor
from models.inputs import Inputs, contiguous
from models.predictor import F32


class OnnxPredictor(PartsPredictor):
    """One one-thread session per part: several threads would spin against each other and the event loop."""

    def __init__(self, artifact: Artifact, precision: str = "fp32", cache: Path | None = None) -> None:
        super().__init__(artifact)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        files = {part: f"{part}.onnx" for part in PARTS} | {"vitals": WALKED}
        self._sessions = {
            part: ort.InferenceSession(artifact.contents[file], options, ["CPUExecutionProvider"])
            for part, file in files.items()
        }

    def run(self, part: str, inputs: Inputs) -> F32:
        return self._sessions[part].run(None, contiguous(inputs))[0]
