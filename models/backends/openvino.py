"""OpenVINO on the CPU, fp32 or bf16, from the artifact's ONNX parts. The only importer of openvino; never imports torch.

Its core is used as it is; `openvino.tools`, where its telemetry lives, is never called.
"""

from pathlib import Path

from models.artifact import PARTS, Artifact
from models.backends.parts import BackendUnavailable, PartsPredictor
from models.inputs import Inputs, contiguous
from models.predictor import F32

_HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenvinoPredictor(PartsPredictor):
    """One one-thread request per part. With bf16 the runtime rounds what it multiplies, if the CPU multiplies bf16."""

    def __init__(self, artifact: Artifact, precision: str = "fp32", cache: Path | None = None) -> None:
        super().__init__(artifact)
        try:
            import openvino
        except ImportError as error:
            raise BackendUnavailable("openvino is not installed: install wardwatch[openvino]") from error
        core = openvino.Core()
        if precision.upper() not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise BackendUnavailable(f"this CPU has no {precision}: use the backend `openvino`")
        self.precision = precision
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._requests = {
            part: core.compile_model(
                core.read_model(artifact.contents[f"{part}.onnx"]), "CPU", options
            ).create_infer_request()
            for part in PARTS
        }

    def run(self, part: str, inputs: Inputs) -> F32:
        outputs = self._requests[part].infer(contiguous(inputs), share_inputs=True)
        return outputs[0].copy()  # the next call of this request writes into the same memory
