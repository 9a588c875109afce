"""What a growing ward costs: latency as the patients in state grow, and as their histories do, interleaved.

One worker each, on one broker and one Redis; memory per patient is what the worker's and Redis' resident sizes grew by.
"""

import asyncio
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from confluent_kafka import Producer
from redis import Redis

from models.signals import SIGNALS, by_name
from streaming import topics
from streaming.bench_latency import WARM_UP_S, cpu_s, event, latencies, stop
from streaming.bench_page import medians
from streaming.bench_scale import AT_1_HZ
from streaming.bench_throughput import answered_until, start_workers, wait_ready
from streaming.clock import MINUTE_MS, wall_ms
from streaming.envelope import from_ms
from streaming.latency import machine
from streaming.observations import WINDOW_MS
from streaming.settings import Settings

SECONDS = 20
FEW = 100
PATIENTS = (10, 1_000, 10_000)
"""In state, beside `FEW` and what is asked for, each with one measurement."""
PER_EVENT = 60
FILLED_PER_S = 15_000
"""Measurements, at most: a hurry would fill the worker's memory with what waits, and that would count as the state's."""
HISTORIES = (480, 4_800, AT_1_HZ)
"""Measurements of each of `FEW` patients in two days: ten an hour, a hundred, and what six signals at 1 Hz leave."""
SIX = tuple(
    (SIGNALS[by_name[name]].loinc, SIGNALS[by_name[name]].ucum, value)
    for name, value in {
        "heart_rate": 80.0, "respiratory_rate": 16.0, "spo2": 96.0, "systolic": 120.0, "diastolic": 70.0,
        "mean_pressure": 87.0,
    }.items()
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ward:
    """How much is in state before the latency is taken."""

    patients: int
    measurements: int = 1

    @property
    def name(self) -> str:
        return f"{self.patients:,} patients" + (
            f", {self.measurements:,} measurements" if self.measurements > 1 else ""
        )


def measure(settings: Settings, many: int, rate: int, rounds: int, report: Callable[[str], None]) -> dict[str, Any]:
    """`wards` by name, `runs` (p50 and p99 in ms, the worker's own processor time an event), `ratios` to `FEW` patients
    with one measurement each, and `bytes_per_patient` in the worker and in Redis.

    Raises:
        Fatal: a worker ended or did not answer every event.
    """
    wards = [Ward(patients) for patients in sorted({FEW, many, *(some for some in PATIENTS if some < many)})]
    wards += [Ward(FEW, measurements) for measurements in HISTORIES]
    runs: list[dict[str, Any]] = []
    memory: dict[str, dict[str, float]] = {}
    children: list[subprocess.Popen[bytes]] = []
    workers: dict[str, subprocess.Popen[bytes]] = {}
    prefixes: dict[str, str] = {}
    try:
        for number, ward in enumerate(wards):
            prefixes[ward.name] = prefix = f"grow-{int(time.time())}-{number}."
            topics.create(settings.kafka_bootstrap, prefix, settings.partitions, settings.replication)
            started, ports = start_workers(prefix, "each", 1)
            children += started
            (workers[ward.name],) = started
            wait_ready(ports, started)
            asyncio.run(latencies(settings.kafka_bootstrap, prefix, "wardwatch", rate, 2.0, 1))
            before = _rss(started[0].pid), _redis_bytes(settings)
            _fill(settings, prefix, ward)
            asyncio.run(latencies(settings.kafka_bootstrap, prefix, "wardwatch", rate, WARM_UP_S, ward.patients))
            grown = _rss(started[0].pid) - before[0], _redis_bytes(settings) - before[1]
            memory[ward.name] = {"worker": grown[0] / ward.patients, "redis": grown[1] / ward.patients}
            report(
                f"{ward.name:<32} per patient: worker {grown[0] / ward.patients / 1024:.1f} KiB, "
                f"Redis {grown[1] / ward.patients / 1024:.1f} KiB"
            )
        for _ in range(rounds):
            for ward in wards:
                before_s = cpu_s(workers[ward.name].pid)
                values = asyncio.run(
                    latencies(settings.kafka_bootstrap, prefixes[ward.name], "wardwatch", rate, SECONDS, ward.patients)
                )
                spent_ms = (cpu_s(workers[ward.name].pid) - before_s) * 1e3 / len(values)
                p50, p99 = np.percentile(values, [50, 99])
                run = {"ward": ward.name, "p50": float(p50), "p99": float(p99), "n": len(values)}
                runs.append(run | {"cpu_ms_per_event": spent_ms})
                report(f"{ward.name:<32} p50 {p50:6.2f} ms  p99 {p99:7.2f} ms  {spent_ms:.2f} ms CPU an event")
    finally:
        stop(children)
    return {
        "few": FEW,
        "wards": {ward.name: asdict(ward) for ward in wards},
        "runs": runs,
        "ratios": _ratios(runs),
        "bytes_per_patient": memory,
        "rate": rate,
        "rounds": rounds,
        "machine": machine(),
    }


def _fill(settings: Settings, prefix: str, ward: Ward) -> None:
    """Brings every patient into state; returns when the worker has answered the last."""
    producer = Producer(
        {"bootstrap.servers": settings.kafka_bootstrap, "linger.ms": 5, "partitioner": "murmur2_random"}
    )
    sent, started = 0, time.monotonic()
    for patient in range(ward.patients):
        for number in range(-(-ward.measurements // PER_EVENT)):
            value, headers, key = event(f"fill-{patient}-{number}", patient, ward.patients)
            if ward.measurements > 1:
                value = _long(number, ward.measurements)
            producer.produce(f"{prefix}vitals", value=value, key=key, headers=headers)
            sent += 1
            if sent % 100 == 0:
                producer.poll(0)
                time.sleep(
                    max(0.0, started + sent * min(ward.measurements, PER_EVENT) / FILLED_PER_S - time.monotonic())
                )
    producer.flush(60)
    asyncio.run(answered_until(settings.kafka_bootstrap, prefix, sent))


def _long(number: int, measurements: int) -> bytes:
    """The patient's event of this number: measurements of six signals, spread evenly over the last two days."""
    step_ms = WINDOW_MS * len(SIX) // measurements
    newest, first = wall_ms() // MINUTE_MS * MINUTE_MS, number * PER_EVENT
    told = []
    for at in range(first, min(first + PER_EVENT, measurements)):
        code, unit, value = SIX[at % len(SIX)]
        time_ms = newest - at // len(SIX) * step_ms
        told.append({"code": code, "value": value + at % 3, "unit": unit, "time": from_ms(time_ms)})
    return orjson.dumps({"observations": told})


def _rss(pid: int) -> int:
    """Resident bytes, proc(5)."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * 4096


def _redis_bytes(settings: Settings) -> int:
    with Redis.from_url(settings.redis_url) as redis:
        return int(redis.info("memory")["used_memory_dataset"])


def _ratios(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    told, few = medians(runs, "ward", "p50", "p99"), Ward(FEW).name
    return {ward: {key: told[ward][key] / told[few][key] for key in told[few]} for ward in told if ward != few}
