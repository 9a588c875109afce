"""Builds engines with torch-tensorrt on a machine without a GPU: `python -m tests.models.torch_tensorrt_rtx --json FILE`.

The very conversion of the backend `tensorrt` (`models.backends.tensorrt.compiled`): program, precision, settings and
torch-tensorrt's converters are real, TensorRT's builder is that of TensorRT-RTX. Two things stand in for the GPU: what
torch says of it, and the read-back of a finished engine, which needs a driver. So this shows that every part converts
whole and builds; what an engine answers, and how fast, only a GPU can tell. A process of its own, since torch-tensorrt
puts its own proxy in the place of the module `tensorrt`.
"""

import argparse
import itertools
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch

COMPUTE_CAPABILITY = (8, 9)  # Ada; the engines themselves are for whatever TensorRT-RTX builds for by default


class _Kept:
    """An engine that was built and is not read back."""

    def __init__(self, serialized):
        self.serialize = lambda: serialized


class _Runtime:
    def __init__(self, logger):
        pass

    def deserialize_cuda_engine(self, serialized):
        return _Kept(serialized)


class _TensorRT:
    """The real module but for its runtime."""

    def __init__(self, real):
        self._real = real

    def __getattr__(self, name):
        return _Runtime if name == "Runtime" else getattr(self._real, name)


def load():
    """torch_tensorrt, able to build here.

    Raises ImportError when it is not installed.
    """
    if not torch.cuda.is_available():
        torch.cuda.get_device_capability = lambda device=None: COMPUTE_CAPABILITY
        torch.cuda.current_device = lambda: 0
        torch.cuda.mem_get_info = lambda device=None: (1 << 34, 1 << 34)
    import torch_tensorrt
    from torch_tensorrt.dynamo.conversion import _TRTInterpreter

    _TRTInterpreter.trt = _TensorRT(_TRTInterpreter.trt)
    return torch_tensorrt


def modules(found, network):
    """Each part, and fusion once more by each other kind, with untrained weights."""
    from models.artifact import PARTS
    from models.fusion import FUSIONS, EachLeftOut, make_fusion

    architecture = network.architecture
    named = {part: network.part(part) for part in PARTS}
    for kind in FUSIONS:
        if kind != architecture.fusion:
            fusion = make_fusion(kind, len(architecture.conditions), architecture.width)
            named[f"fusion:{kind}"] = EachLeftOut(fusion).eval()
    return named


def build(wanted, precisions, buckets):
    """Yields `{part, precision, rows, bytes, seconds}` of each engine."""
    from tokenizers import Tokenizer

    from models import artifact, golden
    from models.backends import tensorrt
    from models.program import build_network, in_precision

    torch_tensorrt = load()
    found = artifact.load(artifact.locate("reference"))
    tokenizer = Tokenizer.from_str(found.contents["tokenizer.json"].decode())
    examples = golden.part_inputs(found.golden(), tokenizer)
    network = build_network(found)
    for (part, module), precision, rows in itertools.product(modules(found, network).items(), precisions, buckets):
        if part not in wanted and "all" not in wanted:
            continue
        started = time.perf_counter()
        rounded = in_precision(module, precision)
        engine = tensorrt.compiled(
            torch_tensorrt, rounded, examples[part.split(":")[0]], rows, torch.device("cpu"), Path("/dev/null")
        )
        seconds = round(time.perf_counter() - started, 1)
        yield {"part": part, "precision": precision, "rows": rows, "bytes": len(engine), "seconds": seconds}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", default="all")
    parser.add_argument("--precisions", default="fp16,bf16")
    parser.add_argument("--rows", default="1,32")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [int(number) for number in options.rows.split(",")]
    engines = []
    for engine in build(options.parts.split(","), options.precisions.split(","), rows):
        engines.append(engine)
        print(json.dumps(engine), file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.json:
        from models import artifact
        from streaming.latency import machine

        report = {
            "engines": engines,
            "model": artifact.load(artifact.locate("reference")).card.model_hash,
            "run_on_a_gpu": False,
            "machine": machine()
            | {"torch_tensorrt_rtx": version("torch-tensorrt-rtx"), "tensorrt_rtx": version("tensorrt-rtx-cu13-libs")},
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
