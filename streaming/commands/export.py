"""`wardwatch export`: what a backend needs beside the artifact's weights, built, cached and checked."""

import time
from pathlib import Path

import click

from streaming.errors import ConfigError
from streaming.settings import Settings


@click.command(short_help="build and check what a backend needs of an artifact")
@click.option("--artifact", "name", default="reference", show_default=True, help="an artifact folder, or `reference`")
@click.option(
    "--backend", required=True, help="onnx, openvino, openvino-bf16, torch, cuda_graph, tensorrt, tensorrt-bf16"
)
def command(name: str, backend: str) -> None:
    """Builds, then checks every engine against the artifact's golden outputs; status 1 when it may not serve.

    onnx: the artifact's ONNX parts and golden outputs are made again from its weights (needs the extra `train`).
    tensorrt: an engine per part and bucket, for this GPU, into WARDWATCH_DATA_DIR/engines.
    The others need nothing built, and are only checked.
    """
    from models import artifact, backends
    from models.golden import GoldenMismatch

    settings = Settings()
    folder = artifact.locate(name)
    started = time.perf_counter()
    try:
        if backend == "onnx":
            _renew(folder)
        elif backend.startswith("tensorrt"):
            _build(folder, backend, settings.engines)
        predictor = backends.load(folder, backend, settings.engines)
    except (artifact.ArtifactCorrupt, backends.BackendUnavailable, GoldenMismatch, ValueError) as error:
        raise ConfigError(str(error)) from error
    took = time.perf_counter() - started
    click.echo(f"{backend}: golden outputs of model {predictor.card.model_hash[:12]} hold ({took:.1f} s)")


def _renew(folder: Path) -> None:
    from models import artifact

    try:
        from training.export import renew
    except ImportError as error:
        raise ConfigError("making ONNX parts needs torch and onnx: install wardwatch[train]") from error
    before = artifact.load(folder).card.model_hash
    click.echo("making ONNX parts and golden outputs from the weights", err=True)
    renew(folder)
    after = artifact.load(folder).card.model_hash
    told = "unchanged" if after == before else f"was {before[:12]}: to workers this is another model"
    click.echo(f"model {after[:12]}, {told}")


def _build(folder: Path, backend: str, engines: Path) -> None:
    from models import artifact, backends

    found = artifact.load(folder)
    if backend not in backends.BACKENDS:
        raise ValueError(f"no backend {backend!r}; there are {', '.join(backends.BACKENDS)}")
    try:
        from models.backends import tensorrt
    except ImportError as error:
        raise backends.BackendUnavailable("tensorrt needs torch: install wardwatch[tensorrt]") from error
    tensorrt.build(found, backends.BACKENDS[backend].precision, engines, lambda line: click.echo(line, err=True))
