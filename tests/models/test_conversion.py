"""Every part converts whole: to an exported program with a dynamic batch, and to TensorRT engines without a GPU."""

import json
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import nn

from models import artifact, golden
from models.fusion import FUSIONS, EachLeftOut, make_fusion
from models.program import build_network, export_part
from tests.conftest import ROOT, absent

FORBIDDEN = {
    "gru", "lstm", "rnn_tanh", "rnn_relu", "baddbmm", "gather", "scatter", "index", "nonzero", "masked_select", "_unique2",
    "_local_scalar_dense", "item", "cond", "while_loop",
}  # fmt: skip
"""Operators without a TensorRT converter, or whose shape or path depends on data."""

PARTS = (*artifact.PARTS, *(f"fusion:{kind}" for kind in FUSIONS))


@pytest.fixture(scope="module")
def found():
    return artifact.load(artifact.locate("reference"))


@pytest.fixture(scope="module")
def examples(found):
    return golden.part_inputs(found.golden(), Tokenizer.from_str(found.contents["tokenizer.json"].decode()))


@pytest.fixture(scope="module")
def network(found):
    return build_network(found)


def _part(name, network, examples):
    part, _, kind = name.partition(":")
    if not kind:
        return network.part(part), examples[part]
    fusion = make_fusion(kind, len(network.architecture.conditions), network.architecture.width)
    return EachLeftOut(fusion).eval(), examples[part]


def _operators(program):
    """What its nodes call, before and after torch takes apart what is made of simpler operators."""
    nodes = (*program.graph.nodes, *program.run_decompositions().graph.nodes)
    targets = {node.target for node in nodes if node.op == "call_function"}
    return {getattr(target, "__name__", str(target)).split(".")[0] for target in targets}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_exports_whole_with_a_dynamic_batch_and_no_forbidden_operator(name, network, examples):
    module, inputs = _part(name, network, examples)
    program = export_part(module, inputs)
    assert not _operators(program) & FORBIDDEN
    assert [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"] == [
        *inputs
    ]
    for rows in (1, 3, 64):
        tensors = [torch.from_numpy(np.resize(array, (rows, *array.shape[1:]))) for array in inputs.values()]
        with torch.no_grad():
            torch.testing.assert_close(program.module()(*tensors), module(*tensors), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["vitals", "fusion"])
def test_a_program_is_made_the_same_each_time(name, network, examples):
    module, inputs = _part(name, network, examples)
    assert str(export_part(module, inputs).graph) == str(export_part(module, inputs).graph)


@pytest.mark.filterwarnings("ignore:The tensor attributes self.cell._flat_weights")
def test_what_must_not_convert_is_noticed():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRU(4, 4, batch_first=True)

        def forward(self, x):
            return self.cell(x)[0]

    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    x = {"x": np.ones((2, 3, 4), np.float32)}
    with torch.no_grad():
        program = torch.export.export(Recurrent().eval(), (torch.ones(2, 3, 4),))
    assert _operators(program) & FORBIDDEN
    with pytest.raises(Exception, match="data-dependent"):
        export_part(Branching(), x)


@pytest.fixture(scope="session")
def on_linux():
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("TensorRT-RTX has wheels for Linux on x86-64 only")


@pytest.mark.parametrize("part", artifact.PARTS)
def test_the_shipped_part_builds_into_a_tensorrt_engine(part, found, on_linux):
    try:
        import tensorrt_rtx as trt
    except ImportError:
        absent("TensorRT-RTX is not installed")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(found.contents[f"{part}.onnx"]), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        given = network.get_input(index)
        one = tuple(given.shape)[1:]
        profile.set_shape(given.name, (1, *one), (8, *one), (64, *one))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None and engine.nbytes > 10_000


def test_torch_tensorrt_converts_parts_and_all_fusions_in_half_precision(on_linux):
    """All but the notes, whose unrolled cells take a minute: `make tensorrt` builds those too."""
    if not _has_torch_tensorrt_rtx():
        absent("torch-tensorrt-rtx is not installed")
    wanted = ["vitals", "scans", "fusion", *(f"fusion:{kind}" for kind in FUSIONS)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.torch_tensorrt_rtx", "--parts", ",".join(wanted), "--precisions", "fp16",
         "--rows", "2"],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    built = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(built) == len(FUSIONS) + 2
    assert all(engine["bytes"] > 10_000 for engine in built)


def _has_torch_tensorrt_rtx():
    from importlib.metadata import PackageNotFoundError, version

    try:
        return bool(version("torch-tensorrt-rtx"))
    except PackageNotFoundError:
        return False
