"""Which backend a worker serves on, and how it says so."""

import logging

import pytest
from click.testing import CliRunner

from streaming import bootstrap
from streaming.commands.export import command as export
from streaming.errors import ConfigError
from streaming.metrics import Metrics
from streaming.settings import Settings

torch = pytest.importorskip("torch")
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def test_the_wanted_backend_serves_and_metrics_name_it():
    metrics = Metrics()
    bootstrap._serving(Settings(), metrics)
    assert 'wardwatch_backend{name="onnx"} 1' in metrics.render()


@no_gpu
def test_a_backend_that_may_not_serve_is_told_in_one_log_line_and_in_the_metrics(caplog):
    metrics = Metrics()
    with caplog.at_level(logging.WARNING):
        bootstrap._serving(Settings(backend="cuda_graph"), metrics)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "streaming.bootstrap"]
    assert line.startswith("cuda_graph may not serve: ") and line.endswith("serving on onnx instead")
    assert 'wardwatch_backend{name="onnx"} 0' in metrics.render()


@no_gpu
def test_auto_on_a_machine_without_a_gpu_is_no_fall_back(caplog):
    metrics = Metrics()
    bootstrap._serving(Settings(backend="auto"), metrics)
    assert 'wardwatch_backend{name="onnx"} 1' in metrics.render()
    assert not [record for record in caplog.records if record.name == "streaming.bootstrap"]


def test_a_backend_nobody_knows_is_a_wrong_setting():
    with pytest.raises(ConfigError, match="no backend"):
        bootstrap.load_serving(Settings(backend="onxx"))


def test_doctor_calls_a_backend_that_may_not_serve_ill(monkeypatch):
    from models import backends
    from streaming.commands import doctor

    def refused(folder, wanted, cache):
        return backends.Serving(None, "onnx", ("openvino may not serve: openvino is not installed",))

    monkeypatch.setattr(backends, "serve", refused)
    with pytest.raises(ConfigError, match="openvino is not installed; workers serve on onnx instead"):
        doctor._model(Settings(backend="openvino"))


@no_gpu
@pytest.mark.parametrize("backend", ["cuda_graph", "tensorrt"])
def test_exporting_for_a_gpu_without_one_is_one_clear_line(backend, tmp_path):
    result = CliRunner().invoke(export, ["--backend", backend], env={"WARDWATCH_DATA_DIR": str(tmp_path)})
    assert isinstance(result.exception, ConfigError)
    assert "NVIDIA GPU" in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_exporting_for_a_backend_that_needs_nothing_built_checks_it():
    result = CliRunner().invoke(export, ["--backend", "torch"])
    assert result.exit_code == 0, result.output
    assert "golden outputs of model" in result.output
