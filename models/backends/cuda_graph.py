"""torch on a GPU: one static CUDA graph per part and bucket, captured from the part's exported program.

fp32 throughout: TF32, which rounds to ten bits, is off while kernels are chosen.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from models import golden
from models.artifact import Artifact
from models.backends.buckets import BUCKETS, BucketedPredictor
from models.backends.static import Buffers, Capture, Static, captured_graph, require_cuda
from models.inputs import Inputs
from models.predictor import F32
from models.program import build_network, export_part


class CudaGraphPredictor(BucketedPredictor):
    """Everything is captured at load. `device` and `capture` are given only by tests, to run without a GPU."""

    def __init__(
        self,
        artifact: Artifact,
        precision: str = "fp32",
        cache: Path | None = None,
        *,
        buckets: Sequence[int] = BUCKETS,
        device: torch.device | None = None,
        capture: Capture = captured_graph,
    ) -> None:
        super().__init__(artifact, buckets)
        device = device or require_cuda("cuda_graph")
        network = build_network(artifact).to(device)
        self._statics: dict[tuple[str, int], Static] = {}
        with _full_precision():
            for part, examples in golden.part_inputs(artifact.golden(), self.tokenizer).items():
                program = export_part(network.part(part), examples, device=str(device)).module()
                for bucket in buckets:
                    self._statics[part, bucket] = _static(program, Buffers(examples, bucket, device), capture)

    def run_bucket(self, part: str, bucket: int, inputs: Inputs) -> F32:
        return self._statics[part, bucket](inputs)


def _static(program: torch.nn.Module, buffers: Buffers, capture: Capture) -> Static:
    return Static(buffers, lambda: program(*buffers.inputs.values()), capture)


@contextmanager
def _full_precision() -> Iterator[None]:
    """No TF32 and no kernels that add up in another order each time. What a graph captured keeps its kernels."""
    matmul = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul
