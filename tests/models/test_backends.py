"""Which backend may serve, how it refuses, and what serves then."""

import gc
import os
import subprocess
import sys
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import artifact, backends, golden, program
from models.backends import buckets, tensorrt
from models.backends.engine_cache import EngineKey, write
from models.backends.onnx import OnnxPredictor
from models.backends.static import Buffers, Static, called_again
from models.backends.torch_eager import TorchPredictor

REFERENCE = artifact.locate("reference")
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


@pytest.fixture(scope="module")
def found():
    return artifact.load(REFERENCE)


@no_gpu
@pytest.mark.parametrize("name", ["cuda_graph", "tensorrt", "tensorrt-bf16"])
def test_without_a_gpu_a_gpu_backend_refuses_in_one_line(name, found, tmp_path):
    with pytest.raises(backends.BackendUnavailable) as refused:
        backends.make(found, name, tmp_path)
    assert "NVIDIA GPU" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            "raise Exception('import error when try to import _TensorRTProxyModule\\nSearch paths: a, b')",
            "_TensorRTProxy",
        ),
        ("raise OSError('libnvinfer.so.10: cannot open shared object file')", "libnvinfer"),
        ("import nothing_of_that_name", "nothing_of_that_name"),
    ],
)
def test_a_torch_tensorrt_that_does_not_load_is_refused_in_one_line(body, told, tmp_path, monkeypatch):
    (tmp_path / "torch_tensorrt.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch_tensorrt", raising=False)
    with pytest.raises(backends.BackendUnavailable) as refused:
        tensorrt.library("torch_tensorrt")
    assert told in str(refused.value) and "wardwatch[tensorrt]" in str(refused.value)
    assert "\n" not in str(refused.value)


def _without(module, code):
    """Runs code in a process where a module cannot be imported."""
    blocked = f"import sys; sys.modules[{module!r}] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", blocked + code], capture_output=True, text=True, timeout=120, check=True, env=os.environ
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("module", "name"), [("openvino", "openvino"), ("torch", "torch"), ("torch", "cuda_graph"), ("torch", "tensorrt")]
)
def test_a_backend_whose_library_is_missing_gives_way_to_onnx_and_says_so(module, name):
    told = _without(
        module,
        "from models import artifact, backends\n"
        f"serving = backends.serve(artifact.locate('reference'), {name!r})\n"
        "print(serving.backend, '|', *serving.refused)",
    )
    assert told.startswith(f"onnx | {name} may not serve: {module} is not installed")
    assert "\n" not in told


class _Wrong(OnnxPredictor):
    """Answers beside the reference by more than any tolerance, in one part only."""

    def run(self, part, given):
        answer = super().run(part, given)
        return answer + 0.05 if part == "scans" else answer


def test_a_backend_that_answers_otherwise_gives_way_to_onnx_and_says_where(monkeypatch):
    monkeypatch.setattr("models.backends.torch_eager.TorchPredictor", _Wrong)
    with pytest.raises(golden.GoldenMismatch):
        backends.load(REFERENCE, "torch")
    serving = backends.serve(REFERENCE, "torch")
    assert serving.backend == "onnx"
    assert "scans differs from the reference by 0.05" in serving.refused[0]


def test_when_the_fall_back_answers_otherwise_nothing_serves(monkeypatch):
    monkeypatch.setattr("models.backends.onnx.OnnxPredictor", _Wrong)
    with pytest.raises(golden.GoldenMismatch):
        backends.serve(REFERENCE, "auto")


def test_a_backend_nobody_knows_is_an_error_no_fall_back():
    with pytest.raises(ValueError, match="no backend 'onxx'; there are onnx, openvino"):
        backends.serve(REFERENCE, "onxx")


@no_gpu
def test_without_a_gpu_auto_is_the_cpu_default():
    serving = backends.serve(REFERENCE, "auto")
    assert serving.backend == "onnx"
    assert len(serving.refused) == 2


@pytest.fixture(scope="module")
def reference_golden(found):
    """Golden inputs as they are made now, and the reference's answers."""
    network = program.build_network(found)
    inputs = golden.inputs(found.card.width, network.vitals.mean.numpy(), network.vitals.std.numpy())
    return inputs | golden.outputs(TorchPredictor(found), inputs)


def _in_precision(found, precision):
    class Layers(TorchPredictor):
        def __init__(self):
            super().__init__(found)
            self._parts = {part: program.in_precision(module, precision) for part, module in self._parts.items()}

    return Layers()


def test_layers_in_fp16_pass_their_gate_and_not_that_of_fp32(found, reference_golden):
    layers = _in_precision(found, "fp16")
    golden.check(layers, reference_golden, "fp16")
    with pytest.raises(golden.GoldenMismatch):
        golden.check(layers, reference_golden)


def test_layers_in_bf16_pass_their_gate_and_not_that_of_fp16(found, reference_golden):
    layers = _in_precision(found, "bf16")
    golden.check(layers, reference_golden, "bf16")
    with pytest.raises(golden.GoldenMismatch):
        golden.check(layers, reference_golden, "fp16")


def test_raw_measurements_in_bf16_do_not_pass(found, reference_golden):
    class RawInputs(TorchPredictor):
        def run(self, part, given):
            floats = {name for name, array in given.items() if array.dtype == np.float32}
            rounded = {name: torch.from_numpy(given[name].copy()).bfloat16().float().numpy() for name in floats}
            return super().run(part, {name: rounded.get(name, array) for name, array in given.items()})

    with pytest.raises(golden.GoldenMismatch):
        golden.check(RawInputs(found), reference_golden, "bf16")


def test_an_answer_that_is_no_number_or_of_another_shape_is_refused(found, reference_golden):
    class NotANumber(OnnxPredictor):
        def run(self, part, given):
            return super().run(part, given) * (np.nan if part == "notes" else 1)

    class Narrow(OnnxPredictor):
        def run(self, part, given):
            return super().run(part, given)[:, : -1 if part == "notes" else None]

    for kind in (NotANumber, Narrow):
        with pytest.raises(golden.GoldenMismatch, match="notes"):
            golden.check(kind(found), reference_golden, "bf16")


def test_every_bucket_is_checked_by_itself(found):
    class Bucketed(buckets.BucketedPredictor):
        def __init__(self):
            super().__init__(found, (1, 4))
            self.inner, self.seen = OnnxPredictor(found), []

        def run_bucket(self, part, bucket, inputs):
            assert {len(array) for array in inputs.values()} == {bucket}
            self.seen.append((part, bucket))
            return self.inner.run(part, inputs) + (1.0 if broken == (part, bucket) else 0.0)

    broken = None
    predictor = Bucketed()
    backends.check(predictor, "onnx", found)
    assert set(predictor.seen) == {(part, bucket) for part in artifact.PARTS for bucket in (1, 4)}
    broken = ("vitals", 4)
    with pytest.raises(golden.GoldenMismatch, match="vitals"):
        backends.check(Bucketed(), "onnx", found)


@given(st.integers(1, 400), st.sets(st.sampled_from(buckets.BUCKETS), min_size=1))
def test_rows_are_cut_into_buckets_without_gap_or_overlap(rows, sizes):
    pieces = list(buckets.cut(rows, tuple(sizes)))
    assert [start for start, _, _ in pieces] == [0, *(stop for _, stop, _ in pieces[:-1])]
    assert pieces[-1][1] == rows
    for start, stop, bucket in pieces:
        assert bucket in sizes and 0 < stop - start <= bucket
        smaller = [size for size in sizes if size < bucket]
        assert stop - start == bucket or all(size < stop - start for size in smaller)


KEY = EngineKey("m", "vitals", 8, "fp16", {"torch": "2.13.0", "tensorrt": "10.15"}, (9, 0))


@pytest.mark.parametrize(
    "change",
    [
        {"model_hash": "n"},
        {"part": "fusion"},
        {"bucket": 16},
        {"precision": "bf16"},
        {"versions": {"torch": "2.13.0", "tensorrt": "10.16"}},
        {"compute_capability": (8, 9)},
    ],
)
def test_an_engine_of_anything_else_is_never_found(change, tmp_path):
    assert replace(KEY, **change).path(tmp_path) != KEY.path(tmp_path)
    assert replace(KEY).path(tmp_path) == KEY.path(tmp_path)


def test_an_engine_is_written_whole(tmp_path):
    path = KEY.path(tmp_path / "engines")
    write(path, b"engine")
    write(path, b"engine again")
    assert path.read_bytes() == b"engine again"
    assert list(path.parent.iterdir()) == [path]


def test_what_a_capture_points_into_lives_as_long_as_the_capture():
    """A captured graph holds addresses, not objects: weights that nobody else keeps must not be freed under it."""
    weights = torch.nn.Linear(2, 2)
    alive = weakref.ref(weights)
    given = {"x": np.ones((3, 2), np.float32)}
    fixed = Buffers(given, 3, torch.device("cpu"))
    captured = {}

    def capture(launch):
        captured["output"] = launch()
        return captured["output"], lambda: None  # as a graph: no reference to the launch

    static = Static(fixed, lambda module=weights: module(*fixed.inputs.values()), capture)
    del weights
    gc.collect()
    assert alive() is not None
    del static
    gc.collect()
    assert alive() is None


def test_fixed_buffers_are_filled_in_place_and_answers_are_copies():
    given = {"x": np.arange(6, dtype=np.float32).reshape(3, 2), "n": np.arange(3)}
    fixed = Buffers(given, 3, torch.device("cpu"))
    addresses = [tensor.data_ptr() for tensor in fixed.inputs.values()]
    static = Static(fixed, lambda: fixed.inputs["x"] * 2 + fixed.inputs["n"].unsqueeze(-1), called_again)
    first = static(given)
    np.testing.assert_array_equal(first, given["x"] * 2 + given["n"][:, None])
    static({"x": np.zeros((3, 2), np.float32), "n": np.zeros(3, np.int64)})
    np.testing.assert_array_equal(first, given["x"] * 2 + given["n"][:, None])
    assert addresses == [tensor.data_ptr() for tensor in fixed.inputs.values()]
