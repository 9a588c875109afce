"""Shared fixtures: the real local stack, the open data, the predictor. Missing parts skip, and fail under CI=true."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import artifact, backends
from models.predictor import Predictor
from streaming import local_stack
from streaming.errors import WardwatchError

ROOT = Path(__file__).resolve().parent.parent


def absent(reason: str) -> None:
    """Skips on a developer's machine; a CI run must have everything."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[local_stack.Stack]:
    """A real Kafka and a real Valkey on free ports."""
    data_dir = tmp_path_factory.mktemp("stack")
    try:
        running = local_stack.start(data_dir, kafka_port=0, redis_port=0)
    except WardwatchError as error:
        absent(f"no local stack: {error}")
    yield running
    local_stack.stop(data_dir)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The open clinical data."""
    root = Path(os.environ.get("WARDWATCH_DATA", ROOT / "../shared/data")).resolve()
    if not (root / "mimic3_demo").is_dir():
        absent("the open clinical data is not there: set WARDWATCH_DATA")
    return root


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    """The shipped model on the default backend."""
    return backends.load(artifact.locate("reference"))
