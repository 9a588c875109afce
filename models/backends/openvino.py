"""OpenVINO on the CPU, fp32 or bf16, from the artifact's ONNX parts. The only importer of openvino; never imports torch.

Its core is used as it is; `openvino.tools`, where its telemetry lives, is never called.
"""

from pathlib import Path

from models.artifact import PARTS, Artifact
from models.backends.parts import BackendUnavailable, PartsPredictor
from models.inputs import Inputs, contiguous
from models.predictor import F32

_HINTS = {"fp32": "f32", "bf16": "bf16"}
_ROUNDED = ("notes", "scans")
"""The parts that bf16 means. The runtime rounds whatever a part is given, too: words are whole numbers and pixels have
few levels, but of a raw pH little would be left. Nearly all arithmetic is in these two anyway."""


class OpenvinoPredictor(PartsPredictor):
    """One one-thread request per part."""

    def __init__(self, artifact: Artifact, precision: str = "fp32", cache: Path | None = None) -> None:
        super().__init__(artifact)
        try:
            import openvino
        except ImportError as error:
            raise BackendUnavailable("openvino is not installed: install wardwatch[openvino]") from error
        core = openvino.Core()
        if precision.upper() not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise BackendUnavailable(f"this CPU has no {precision}: use the backend `openvino`")
        options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        self._requests = {}
        for part in PARTS:
            hint = _HINTS[precision if part in _ROUNDED else "fp32"]
            model = core.read_model(artifact.contents[f"{part}.onnx"])
            compiled = core.compile_model(model, "CPU", options | {"INFERENCE_PRECISION_HINT": hint})
            self._requests[part] = compiled.create_infer_request()

    def run(self, part: str, inputs: Inputs) -> F32:
        outputs = self._requests[part].infer(contiguous(inputs), share_inputs=True)
        return outputs[0].copy()  # the next call of this request writes into the same memory
