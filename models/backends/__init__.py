"""Backends behind the `Predictor` seam, one file each. Owns which there are and which may serve.

A backend serves only when its answers to the artifact's golden inputs are the reference's, masked ones among them, to
its precision's tolerance; each of its fixed-shape engines by itself.
"""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from models import artifact, golden
from models.artifact import Artifact
from models.backends.parts import BackendUnavailable
from models.golden import GoldenMismatch
from models.predictor import Predictor

__all__ = ["AUTO", "BACKENDS", "BackendUnavailable", "Serving", "check", "load", "make", "serve"]


class Backend(NamedTuple):
    """Where a backend lives, loaded only when asked for, and the precision it multiplies in."""

    module: str
    predictor: str
    precision: str


BACKENDS = {
    "onnx": Backend("onnx", "OnnxPredictor", "fp32"),
    "openvino": Backend("openvino", "OpenvinoPredictor", "fp32"),
    "openvino-bf16": Backend("openvino", "OpenvinoPredictor", "bf16"),
    "torch": Backend("torch_eager", "TorchPredictor", "fp32"),
    "cuda_graph": Backend("cuda_graph", "CudaGraphPredictor", "fp32"),
    "tensorrt": Backend("tensorrt", "TensorrtPredictor", "fp16"),
    "tensorrt-bf16": Backend("tensorrt", "TensorrtPredictor", "bf16"),
}

FALL_BACK = "onnx"

AUTO = ("tensorrt", "cuda_graph", FALL_BACK)
"""What `auto` tries, in order: a GPU where there is one (TensorRT where its engines were built), else the CPU default.

On a CPU it never picks bf16: a score made again elsewhere should be the same score.
"""


@dataclass(frozen=True, slots=True)
class Serving:
    """A checked predictor, the backend it runs on, and why those wanted before it may not serve, a line each."""

    predictor: Predictor
    backend: str
    refused: tuple[str, ...] = ()


def make(found: Artifact, backend: str, cache: Path | None = None) -> Predictor:
    """An unchecked predictor. `cache` is the folder of engines that `wardwatch export` built.

    Raises:
        BackendUnavailable: this machine cannot run it.
        ValueError: no backend of that name.
    """
    if backend not in BACKENDS:
        raise ValueError(f"no backend {backend!r}; there are {', '.join(BACKENDS)} and auto")
    module, name, precision = BACKENDS[backend]
    try:
        kind = getattr(importlib.import_module(f"models.backends.{module}"), name)
    except ImportError as error:
        raise BackendUnavailable(
            f"{error.name or 'a library'} is not installed: install its extra of wardwatch"
        ) from error
    predictor: Predictor = kind(found, precision, cache)
    return predictor


def check(predictor: Predictor, backend: str, found: Artifact) -> None:
    """Raises `GoldenMismatch` where any of the backend's engines does not answer as the reference did."""
    expected = found.golden()
    for view in _views(predictor):
        golden.check(view, expected, BACKENDS[backend].precision)


def load(folder: Path, backend: str = FALL_BACK, cache: Path | None = None) -> Predictor:
    """A predictor whose artifact's hashes and golden outputs were checked.

    Raises:
        ArtifactCorrupt, GoldenMismatch: it must not serve.
        BackendUnavailable, ValueError: as `make`.
    """
    found = artifact.load(folder)
    predictor = make(found, backend, cache)
    check(predictor, backend, found)
    return predictor


def serve(folder: Path, wanted: str, cache: Path | None = None) -> Serving:
    """The wanted backend, or the best there is (`auto`), or the fall-back with the reasons.

    Raises:
        ArtifactCorrupt: nothing may serve.
        BackendUnavailable, GoldenMismatch: not even the fall-back may serve.
        ValueError: no backend of that name.
    """
    found = artifact.load(folder)
    refused: list[str] = []
    for name in AUTO if wanted == "auto" else dict.fromkeys((wanted, FALL_BACK)):
        try:
            predictor = make(found, name, cache)
            check(predictor, name, found)
        except (BackendUnavailable, GoldenMismatch) as error:
            if name == FALL_BACK:
                raise
            refused.append(f"{name} may not serve: {error}")
        else:
            return Serving(predictor, name, tuple(refused))
    raise AssertionError("the fall-back returns or raises")


def _views(predictor: Predictor) -> Iterator[Predictor]:
    """Each fixed shape of a bucketed predictor by itself; any other as it is."""
    buckets = getattr(predictor, "buckets", None)
    if buckets is None:
        yield predictor
    else:
        yield from (predictor.only(bucket) for bucket in buckets)  # type: ignore[attr-defined]  # a BucketedPredictor
