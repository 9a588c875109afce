"""TensorRT on a GPU, through torch-tensorrt: one static engine per part and bucket, run as one CUDA graph each.

Engines are built by `build` (`wardwatch export`) from the part's exported program, kept as plain engine files, and only
read when serving: building takes minutes, and a worker that starts must not. The one importer of torch_tensorrt and
tensorrt, both when called. NVIDIA's licence of TensorRT forbids medical and life-critical use without an agreement.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models import golden
from models.artifact import Artifact
from models.backends.buckets import BUCKETS, BucketedPredictor
from models.backends.engine_cache import EngineKey, write
from models.backends.parts import BackendUnavailable
from models.backends.static import Buffers, Static, captured_graph, require_cuda
from models.inputs import Inputs
from models.predictor import F32
from models.program import build_network, export_part, in_precision

SETTINGS: Mapping[str, Any] = {
    "require_full_compilation": True,  # nothing may be left to torch between engines
    "min_block_size": 1,
    "disable_tf32": True,  # what is fp32 stays fp32
    "attn_bias_is_causal": False,  # True, the default, can put a causal mask in the place of ours (pytorch/TensorRT#4129)
}
"""How every engine is asked for. Precision is the program's own: torch-tensorrt types networks explicitly."""


class TensorrtPredictor(BucketedPredictor):
    """Engines that `build` made of this model, on this kind of GPU, with these versions, from the cache.

    Raises `BackendUnavailable` when one of them, TensorRT or the GPU is missing.
    """

    def __init__(self, artifact: Artifact, precision: str = "fp16", cache: Path | None = None) -> None:
        super().__init__(artifact, BUCKETS)
        device = require_cuda("tensorrt")
        library("torch_tensorrt")  # which wants to be imported before tensorrt
        trt = library("tensorrt")
        if cache is None:
            raise BackendUnavailable("tensorrt needs a folder of engines")
        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._statics: dict[tuple[str, int], Static] = {}
        for part, examples in golden.part_inputs(artifact.golden(), self.tokenizer).items():
            for bucket in self.buckets:
                path = _key(artifact, part, bucket, precision, device).path(cache)
                if not path.is_file():
                    raise BackendUnavailable(
                        f"this machine has no {precision} engine of {part} for {bucket} rows yet: run `wardwatch export`"
                    )
                engine = runtime.deserialize_cuda_engine(path.read_bytes())
                if engine is None:
                    raise BackendUnavailable(f"TensorRT cannot read {path.name}: remove it and run `wardwatch export`")
                self._statics[part, bucket] = _static(trt, engine, Buffers(examples, bucket, device))

    def run_bucket(self, part: str, bucket: int, inputs: Inputs) -> F32:
        return self._statics[part, bucket](inputs)


def build(
    artifact: Artifact, precision: str, cache: Path, report: Callable[[str], None], buckets: Sequence[int] = BUCKETS
) -> None:
    """Builds what the cache does not hold yet, telling of each engine.

    Raises:
        BackendUnavailable: no GPU, or torch-tensorrt does not load here.
    """
    device = require_cuda("tensorrt")
    torch_tensorrt = library("torch_tensorrt")
    cache.mkdir(parents=True, exist_ok=True)
    network = in_precision(build_network(artifact), precision).to(device)
    tokenizer = Tokenizer.from_str(artifact.contents["tokenizer.json"].decode())
    for part, examples in golden.part_inputs(artifact.golden(), tokenizer).items():
        for bucket in buckets:
            path = _key(artifact, part, bucket, precision, device).path(cache)
            if path.is_file():
                report(f"{part}, {bucket} rows: built before")
                continue
            report(f"{part}, {bucket} rows: building")
            timings = cache / "timings.bin"
            write(path, compiled(torch_tensorrt, network.part(part), examples, bucket, device, timings))


def compiled(
    torch_tensorrt: ModuleType,
    module: torch.nn.Module,
    examples: Mapping[str, NDArray[Any]],
    bucket: int,
    device: torch.device,
    timings: Path,
) -> bytes:
    """The engine of a part at a bucket. `timings` is where TensorRT notes how fast it found its kernels to be."""
    program = export_part(module, examples, rows=bucket, device=str(device))
    inputs = [torch.from_numpy(np.resize(array, (bucket, *array.shape[1:]))).to(device) for array in examples.values()]
    engine = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
        program, arg_inputs=inputs, timing_cache_path=str(timings), **SETTINGS
    )
    return bytes(engine)


def library(name: str) -> ModuleType:
    """torch_tensorrt or tensorrt, imported now.

    torch_tensorrt without TensorRT's own libraries raises a bare `Exception` on import, so anything is caught.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:
        first = str(error).strip().split("\n")[0] or type(error).__name__
        raise BackendUnavailable(f"{name} does not load here ({first}): install wardwatch[tensorrt]") from error


def _key(artifact: Artifact, part: str, bucket: int, precision: str, device: torch.device) -> EngineKey:
    versions = {name: library(name).__version__ for name in ("torch", "torch_tensorrt", "tensorrt")}
    capability = torch.cuda.get_device_capability(device)
    return EngineKey(artifact.card.model_hash, part, bucket, precision, versions, capability)


def _static(trt: ModuleType, engine: Any, buffers: Buffers) -> Static:
    """The engine bound to fixed buffers: its inputs in the program's order, its one output after them."""
    context = engine.create_execution_context()  # keeps the engine, as the engine keeps the runtime
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    taken = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    (given,) = (name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT)
    device = next(iter(buffers.inputs.values())).device
    output = torch.empty(tuple(engine.get_tensor_shape(given)), dtype=torch.float32, device=device)
    for name, tensor in zip(taken, buffers.inputs.values(), strict=True):
        context.set_tensor_address(name, tensor.data_ptr())
    context.set_tensor_address(given, output.data_ptr())

    def launch() -> torch.Tensor:
        if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise RuntimeError("TensorRT did not take the launch")
        return output

    return Static(buffers, launch, captured_graph)
