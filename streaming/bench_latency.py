"""Latency beside bare clients: same broker, same producer, same subscriber, interleaved rounds, medians of rounds.

Every event is another patient's heart rate in turn and is scored (WARDWATCH_SCORE=each). For a comparator the event is
answered when it comes out of its sink topic; for Wardwatch when a risk record covers it.
"""

import asyncio
import gc
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from streaming import bench_peers, topics
from streaming.envelope import from_ms, headers_for
from streaming.errors import Fatal
from streaming.kafka_reading import read_from_now
from streaming.latency import machine
from streaming.local_stack import free_port
from streaming.settings import Settings

PATIENTS = 100
PEERS = tuple(name for name in ("faust", "aiokafka", "quixstreams") if name in sys.modules or find_spec(name))
"""The comparators that are installed."""

WARM_UP_S = 15.0
"""Each system's traffic before its first round: the broker's JVM still compiles its paths in a run's first seconds."""
SETTLE_S = 3.0
"""The same at every further rate."""

DRAIN_S = 20.0

_STRIDE = 7919
"""A prime, so that every patient gets a turn and those of one moment lie far apart."""


def measure(
    settings: Settings, rates: Sequence[int], seconds: int, rounds: int, report: Callable[[str], None]
) -> dict[str, Any]:
    """`runs` (each round's p50 and p99 in ms, the system's own processor time an event, and the longest turn
    of Wardwatch's event loop) and `ratios` by rate: medians of Wardwatch over a comparator's.

    Raises:
        Fatal: a system under test ended or did not answer every event.
    """
    prefix = f"bench-{int(time.time())}."
    for name in ("", *(f"{peer}." for peer in PEERS)):
        topics.create(settings.kafka_bootstrap, prefix + name, settings.partitions, settings.replication)
    health_port = free_port()
    children = _start(settings, prefix, health_port)
    runs: list[dict[str, Any]] = []
    try:
        for rate in rates:
            for round_number in range(-1, rounds):  # round -1 warms up
                for name, child in zip(("wardwatch", *PEERS), children, strict=True):
                    length = (WARM_UP_S if rate == rates[0] else SETTLE_S) if round_number < 0 else seconds
                    before_s = cpu_s(child.pid)
                    values = asyncio.run(
                        latencies(settings.kafka_bootstrap, prefix, name, rate, length, ended=child.poll)
                    )
                    spent_ms = (cpu_s(child.pid) - before_s) * 1e3 / len(values)
                    if round_number < 0:
                        continue
                    p50, p99 = np.percentile(values, [50, 99])
                    run = {"rate": rate, "name": name, "p50": float(p50), "p99": float(p99), "n": len(values)}
                    run["cpu_ms_per_event"] = spent_ms
                    said = f"{rate}/s  {name:<11} p50 {p50:6.2f} ms  p99 {p99:7.2f} ms  {spent_ms:.2f} ms CPU an event"
                    if name == "wardwatch":
                        run["loop_held_ms_max"] = _loop_held_ms(health_port)
                        said += f"  loop held {run['loop_held_ms_max']:.1f} ms at most"
                    runs.append(run)
                    report(said)
    finally:
        stop(children)
    return {"runs": runs, "ratios": _ratios(runs, rates), "seconds": seconds, "rounds": rounds, "machine": machine()}


def cpu_s(pid: int) -> float:
    """User and system time of a process, proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _loop_held_ms(port: int) -> float:
    """The worker's own word: the longest turn of its event loop in the last ten seconds (`watched_loop.py`)."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        told = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#"))
    return float(told["wardwatch_loop_held_seconds_max"]) * 1e3


def worker_environment(prefix: str, score: str) -> dict[str, str]:
    """The environment of a worker under test."""
    return os.environ | {
        "WARDWATCH_TOPIC_PREFIX": prefix,
        "WARDWATCH_SCORE": score,
        "WARDWATCH_CLOCK": "wall",
        "WARDWATCH_LOG_LEVEL": "error",
    }


def stop(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ends systems under test and waits until they are gone."""
    for child in children:
        child.terminate()
    for child in children:
        try:
            child.wait(timeout=15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _start(settings: Settings, prefix: str, health_port: int) -> list[subprocess.Popen[bytes]]:
    env = worker_environment(prefix, "each") | {"WARDWATCH_HEALTH_PORT": str(health_port)}
    children = [subprocess.Popen([sys.executable, "-m", "streaming", "worker", "--role", "fusion"], env=env)]
    for peer in PEERS:
        children.append(
            bench_peers.start(peer, settings.kafka_bootstrap, f"{prefix}{peer}.vitals", f"{prefix}{peer}.risk")
        )
    return children


async def latencies(
    bootstrap: str,
    prefix: str,
    name: str,
    rate: int,
    seconds: float,
    patients: int = PATIENTS,
    ended: Callable[[], int | None] = lambda: None,
) -> list[float]:
    """Milliseconds from produced to received, one per event.

    Raises:
        Fatal: not every event was answered, or `ended` gives a status.
    """
    own = prefix if name == "wardwatch" else f"{prefix}{name}."
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await consumer.start()
    await producer.start()
    receiving: asyncio.Task[None] | None = None
    try:
        await read_from_now(consumer, f"{own}risk")
        sent: dict[str, float] = {}
        values: list[float] = []
        total = int(rate * seconds)
        receiving = asyncio.create_task(_receive(consumer, name, sent, values, total))
        run = time.time_ns()
        # The collector of this process would stop the clock's own side for tens of milliseconds; a round is short.
        gc.collect()
        gc.disable()
        started = time.perf_counter()
        for number in range(total):
            ahead_s = number / rate - (time.perf_counter() - started)
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
            event_id = f"{run}-{number}"
            value, headers, key = event(event_id, number, patients)
            if name != "wardwatch":  # a comparator passes the value on, so the id has to be in it
                value = value[:-1] + b',"id":"' + event_id.encode() + b'"}'
            sent[event_id] = time.perf_counter()
            await producer.send(f"{own}vitals", value, key, headers=headers)
        answered, drained = False, time.perf_counter() + DRAIN_S
        while not answered:
            answered = bool((await asyncio.wait({receiving}, timeout=0.5))[0])
            if (status := ended()) is not None:
                raise Fatal(f"{name} ended with status {status}")
            if not answered and time.perf_counter() > drained:
                raise Fatal(f"{name} answered {len(values)} of {total} events")
        receiving.result()
        return values
    finally:
        gc.enable()
        if receiving is not None:
            receiving.cancel()
        await consumer.stop()
        await producer.stop()


def patient_of(number: int, patients: int = PATIENTS) -> str:
    """Whose turn it is."""
    return f"bench-{number * _STRIDE % patients}"


def event(event_id: str, number: int, patients: int = PATIENTS) -> tuple[bytes, list[tuple[str, bytes]], bytes]:
    """Value, headers and key of a heart rate of each patient in turn."""
    now_ms = time.time_ns() // 1_000_000
    patient = patient_of(number, patients)
    measured = {"code": "8867-4", "value": 60.0 + number % 60, "unit": "/min", "time": from_ms(now_ms)}
    headers = headers_for("vitals", id=event_id, source="bench", patient=patient, time_ms=now_ms, recorded_ms=now_ms)
    return orjson.dumps({"observations": [measured]}), headers, patient.encode()


async def _receive(
    consumer: AIOKafkaConsumer, name: str, sent: dict[str, float], values: list[float], total: int
) -> None:
    while len(values) < total:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            now = time.perf_counter()
            for record in records:
                event_id = orjson.loads(record.value)["trigger_id" if name == "wardwatch" else "id"]
                started = sent.pop(event_id, None)
                if started is not None:
                    values.append((now - started) * 1e3)


def _ratios(runs: Sequence[dict[str, Any]], rates: Sequence[int]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for rate in rates:
        medians = {
            (name, key): statistics.median(run[key] for run in runs if run["rate"] == rate and run["name"] == name)
            for name in ("wardwatch", *PEERS)
            for key in ("p50", "p99")
        }
        found[str(rate)] = {
            f"{key}_vs_{peer}": medians["wardwatch", key] / medians[peer, key]
            for peer in PEERS
            for key in ("p50", "p99")
        }
    return found
