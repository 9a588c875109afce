"""Backends behind the `Predictor` seam, one file each; `load` is how to get one that may serve."""

from pathlib import Path

from models import artifact, golden
from models.predictor import Predictor

BACKENDS = ("onnx", "torch")


def load(folder: Path, backend: str = "onnx") -> Predictor:
    """A predictor whose artifact's hashes and golden outputs were checked.

    Raises:
        ArtifactCorrupt, GoldenMismatch: it must not serve.
        ValueError: no backend of that name.
    """
    found = artifact.load(folder)
    predictor: Predictor
    if backend == "onnx":
        from models.backends.onnx import OnnxPredictor

        predictor = OnnxPredictor(found)
    elif backend == "torch":
        from models.backends.torch_eager import TorchPredictor

        predictor = TorchPredictor(found)
    else:
        raise ValueError(f"no backend {backend!r}; there are {', '.join(BACKENDS)}")
    golden.check(predictor, found.golden())
    return predictor
