import re
from pathlib import Path

import orjson
import pytest

from models import artifact, backends
from streaming import bench_engine, bench_page


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A whole run on the default backend, as short as it gets, and one that no machine has."""
    patch = pytest.MonkeyPatch()
    for name, value in {"ROUNDS": 1, "CASE_S": 0.0, "LAG_S": 0.05, "BUCKETS": (1, 2)}.items():
        patch.setattr(bench_engine, name, value)
    predictor = backends.load(artifact.locate("reference"))
    given = artifact.load(artifact.locate("reference")).golden()
    answers = {
        ("onnx", "start"): {"seconds": 0.5},
        ("onnx", "measure"): bench_engine.measured(predictor, given),
        ("openvino", "start"): {"seconds": 0.1, "refused": "openvino is <not> installed"},
    }
    patch.setattr(bench_engine, "_child", lambda name, folder, engines, what: dict(answers[name, what]))
    lines = []
    made = bench_engine.measure(artifact.locate("reference"), ("onnx", "openvino"), Path(), lines.append)
    patch.undo()
    assert len(lines) == 2
    return made


def test_every_part_and_size_is_measured_and_the_ratio_is_of_this_run(report):
    result = report["backends"]["onnx"]
    assert set(result["parts_ms"]) == set(artifact.PARTS)
    assert all(set(times) == {"1", "2"} and min(times.values()) > 0 for times in result["parts_ms"].values())
    assert result["update_of_whole"] == pytest.approx(result["update_ms"]["1"] / result["whole_ms"])
    assert report["bar_holds"] == {"onnx": result["update_of_whole"] <= 1 / 30}
    assert result["cold_start_s"] == 0.5
    assert max(result["errors"].values()) < 1e-4


def test_a_backend_that_does_not_run_here_is_named_with_its_reason(report):
    assert "installed" in report["backends"]["openvino"]["refused"]


def test_the_page_is_whole_and_loads_nothing(report, tmp_path):
    page = bench_page.write("engine", report, tmp_path / "new" / "engine.json")
    assert orjson.loads((tmp_path / "new" / "engine.json").read_bytes())["model"] == report["model"]
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == text.count("</svg>") == 2
    assert "openvino is &lt;not&gt; installed" in text
    assert not re.search(r"<script|https?:|src=", text)


def test_a_child_says_why_its_backend_does_not_run(tmp_path, monkeypatch):
    def missing(folder, name, engines):
        raise backends.BackendUnavailable("not here")

    monkeypatch.setattr(backends, "load", missing)
    assert bench_engine.run_child("tensorrt", tmp_path, tmp_path, "start") == {"refused": "not here"}
