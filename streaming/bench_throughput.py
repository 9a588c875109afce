"""Saturation beside bare clients: systems that are ready get many events at once; their pace is read from their sink.

Three loads: `scored` (every event another patient's, each scored by itself), `catch-up` (many events of few patients,
what waits of a patient is scored once) and, for the comparators that do nothing, the same events passed on. Rounds are
interleaved; medians count. Pace is taken between the first and the last tenth. How two workers share the work is
measured with a fixed share of a core each, so that the broker is not what they wait for.
"""

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer
from confluent_kafka import Producer

from streaming import bench_peers, topics
from streaming.bench_latency import PEERS, cpu_s, event, stop, worker_environment
from streaming.errors import Fatal
from streaming.kafka_reading import partitions_of
from streaming.latency import machine
from streaming.local_stack import free_port
from streaming.settings import Settings

EVENTS = {"scored": 12_000, "catch-up": 60_000, "passed on": 30_000}
WARM_SHARE, END_SHARE = 0.1, 0.9
PATIENCE_S = 120.0
SHARE = 0.25
"""Of a core, for each of one or two workers."""
SLICE_S = 0.02


@dataclass(frozen=True, slots=True)
class System:
    """What is measured: a load, and how many processes of which program carry it, each with which share of a core."""

    name: str
    load: str
    workers: int = 1
    share: float = 1.0
    peer: str | None = None

    @property
    def total(self) -> int:
        return int(EVENTS[self.load] * (self.share if self.workers == 1 else min(1.0, self.workers * self.share)))

    @property
    def patients(self) -> int:
        return self.total if self.load == "scored" else 100


SYSTEMS = (
    System("wardwatch scored", "scored"),
    System("wardwatch catch-up", "catch-up"),
    System("one worker, a quarter core", "scored", share=SHARE),
    System("two workers, a quarter core each", "scored", workers=2, share=SHARE),
    *(System(peer, "passed on", peer=peer) for peer in PEERS),
)


def measure(settings: Settings, rounds: int, report: Callable[[str], None]) -> dict[str, Any]:
    """`runs` (events/s, and events per second of the system's own processor time) and `ratios` to the comparators.

    Raises:
        Fatal: a system under test ended or did not get through its events.
    """
    runs: list[dict[str, Any]] = []
    for round_number in range(rounds):
        for number, system in enumerate(SYSTEMS):
            prefix = f"pace-{int(time.time())}-{round_number}-{number}."
            topics.create(settings.kafka_bootstrap, prefix, settings.partitions, settings.replication)
            run = asyncio.run(_run(settings, prefix, system))
            runs.append(run)
            report(f"{system.name:<30} {run['per_s']:9.0f} events/s  {run['per_cpu_s']:9.0f} per second of its own CPU")
    return {"runs": runs, "ratios": _ratios(runs), "rounds": rounds, "events": EVENTS, "machine": machine()}


async def _run(settings: Settings, prefix: str, system: System) -> dict[str, Any]:
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap, enable_auto_commit=False)
    await consumer.start()
    children, ports = _start(settings, prefix, system)
    throttle = _Throttle(children, system.share)
    try:
        tps = await partitions_of(consumer, f"{prefix}risk")
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        await asyncio.to_thread(wait_ready, ports, children)
        flooding = asyncio.create_task(
            asyncio.to_thread(_flood, settings.kafka_bootstrap, f"{prefix}vitals", system.total, system.patients)
        )
        throttle.start()
        pace = await asyncio.wait_for(_pace(consumer, system, [child.pid for child in children]), PATIENCE_S)
        await flooding
        return {"system": system.name} | pace
    except TimeoutError:
        ended = [child.returncode for child in children if child.poll() is not None]
        raise Fatal(f"{system.name} did not get through {system.total} events in time (ended: {ended})") from None
    finally:
        await consumer.stop()
        throttle.stop()
        await asyncio.to_thread(stop, children)


def _flood(bootstrap: str, topic: str, total: int, patients: int) -> None:
    producer = Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 5, "partitioner": "murmur2_random", "enable.idempotence": True}
    )
    for value, headers, key in [event(f"pace-{number}", number, patients) for number in range(total)]:
        producer.produce(topic, value=value, key=key, headers=headers)
    if producer.flush(60):
        raise Fatal("the broker did not take the events in time")


def _start(settings: Settings, prefix: str, system: System) -> tuple[list[subprocess.Popen[bytes]], list[int]]:
    if system.peer:
        return [bench_peers.start(system.peer, settings.kafka_bootstrap, f"{prefix}vitals", f"{prefix}risk")], []
    return start_workers(prefix, "each" if system.load == "scored" else "auto", system.workers)


def start_workers(
    prefix: str, score: str, number: int, role: str = "fusion"
) -> tuple[list[subprocess.Popen[bytes]], list[int]]:
    """So many workers of a role, and the health port of each."""
    env = worker_environment(prefix, score)
    command = [sys.executable, "-m", "streaming", "worker", "--role", role]
    ports = [free_port() for _ in range(number)]
    return [subprocess.Popen(command, env=env | {"WARDWATCH_HEALTH_PORT": str(port)}) for port in ports], ports


def wait_ready(ports: Sequence[int], children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Until every worker owns partitions; a comparator starts on its own time, before the first tenth."""
    deadline = time.monotonic() + PATIENCE_S
    for port in ports:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
                    break
            except (urllib.error.URLError, OSError):
                if time.monotonic() > deadline or any(child.poll() is not None for child in children):
                    raise Fatal("a system under test did not become ready") from None
                time.sleep(0.05)


class _Throttle:
    """Stops and continues each process in turn, so that it has a fixed share of the time."""

    def __init__(self, children: Sequence[subprocess.Popen[bytes]], share: float) -> None:
        self._children, self._share = children, share
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        if self._share >= 1:
            return
        for number, child in enumerate(self._children):
            delay = SLICE_S * number / len(self._children)
            self._threads.append(threading.Thread(target=self._slice, args=(child.pid, delay), daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        """Ends with every process running."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _slice(self, pid: int, delay_s: float) -> None:
        self._ended.wait(delay_s)
        while not self._ended.is_set():
            os.kill(pid, signal.SIGSTOP)
            self._ended.wait(SLICE_S * (1 - self._share))
            os.kill(pid, signal.SIGCONT)
            self._ended.wait(SLICE_S * self._share)


async def _pace(consumer: AIOKafkaConsumer, system: System, pids: Sequence[int]) -> dict[str, float]:
    """Events answered over time. A risk record answers its partition's events up to its offset; else one a record."""
    answered: dict[int, int] = {}
    began: tuple[float, float, int] | None = None
    while True:
        fetched = await consumer.getmany(timeout_ms=20)
        now = time.perf_counter()
        for tp, records in fetched.items():
            if system.peer:
                answered[tp.partition] = answered.get(tp.partition, 0) + len(records)
            else:
                _cover(answered, tp.partition, records)
        done = sum(answered.values())
        if began is None and done >= WARM_SHARE * system.total:
            began = now, sum(map(cpu_s, pids)), done
        elif began is not None and done >= END_SHARE * system.total:
            started, started_cpu_s, first = began
            spent_cpu_s = max(sum(map(cpu_s, pids)) - started_cpu_s, 0.01)
            return {"per_s": (done - first) / (now - started), "per_cpu_s": (done - first) / spent_cpu_s}


async def answered_until(bootstrap: str, prefix: str, total: int) -> None:
    """Returns when risk records cover so many vitals events of a prefix."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        tps = await partitions_of(consumer, f"{prefix}risk")
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        answered: dict[int, int] = {}
        while sum(answered.values()) < total:
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                _cover(answered, tp.partition, records)
    finally:
        await consumer.stop()


def _cover(answered: dict[int, int], partition: int, records: Sequence[Any]) -> None:
    newest = max(orjson.loads(record.value)["offsets"]["vitals"] for record in records)
    answered[partition] = max(answered.get(partition, 0), newest + 1)


def _ratios(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    def ratio(name: str, other: str, key: str) -> float:
        one, two = (statistics.median(run[key] for run in runs if run["system"] == system) for system in (name, other))
        return one / two

    found = {
        name: {f"{key}_vs_{peer}": ratio(name, peer, key) for peer in PEERS for key in ("per_s", "per_cpu_s")}
        for name in ("wardwatch scored", "wardwatch catch-up")
    }
    found["two workers"] = {"per_s_vs_one": ratio(SYSTEMS[3].name, SYSTEMS[2].name, "per_s")}
    return found
