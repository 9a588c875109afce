"""What a growing ward costs: latency with 100 patients in state, with very many, and with long histories, interleaved.

One worker each, on one broker and one Redis; memory per patient is what the worker's and Redis' resident sizes grew by.
"""

import asyncio
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from confluent_kafka import Producer
from redis import Redis

from streaming import topics
from streaming.bench_latency import WARM_UP_S, event, latencies, stop
from streaming.bench_throughput import answered_until, start_workers, wait_ready
from streaming.clock import HOUR_MS, wall_ms
from streaming.envelope import from_ms
from streaming.latency import machine
from streaming.settings import Settings

RATE = 200
SECONDS = 10
FEW = 100
PER_EVENT = 500
HISTORY = 5_000
"""Measurements a patient: about a hundred an hour for two days."""


@dataclass(frozen=True, slots=True)
class Ward:
    """How much is in state before the latency is taken."""

    name: str
    patients: int
    measurements: int = 1


def measure(settings: Settings, many: int, rounds: int, report: Callable[[str], None]) -> dict[str, Any]:
    """`runs` (p50 and p99 in ms), `ratios` to 100 patients, and `bytes_per_patient` in the worker and in Redis.

    Raises:
        Fatal: a worker ended or did not answer every event.
    """
    wards = (Ward("100 patients", FEW), Ward("many patients", many), Ward("long histories", FEW, HISTORY))
    runs: list[dict[str, Any]] = []
    memory: dict[str, dict[str, float]] = {}
    children: list[subprocess.Popen[bytes]] = []
    prefixes: dict[str, str] = {}
    try:
        for number, ward in enumerate(wards):
            prefixes[ward.name] = prefix = f"grow-{int(time.time())}-{number}."
            topics.create(settings.kafka_bootstrap, prefix, settings.partitions, settings.replication)
            started, ports = start_workers(prefix, "each", 1)
            children += started
            wait_ready(ports, started)
            asyncio.run(latencies(settings.kafka_bootstrap, prefix, "wardwatch", RATE, 2.0, 1))
            before = _rss(started[0].pid), _redis_bytes(settings)
            _fill(settings, prefix, ward)
            asyncio.run(latencies(settings.kafka_bootstrap, prefix, "wardwatch", RATE, WARM_UP_S, ward.patients))
            grown = _rss(started[0].pid) - before[0], _redis_bytes(settings) - before[1]
            memory[ward.name] = {"worker": grown[0] / ward.patients, "redis": grown[1] / ward.patients}
            report(
                f"{ward.name:<15} per patient: worker {grown[0] / ward.patients / 1024:.1f} KiB, "
                f"Redis {grown[1] / ward.patients / 1024:.1f} KiB"
            )
        for _ in range(rounds):
            for ward in wards:
                values = asyncio.run(
                    latencies(settings.kafka_bootstrap, prefixes[ward.name], "wardwatch", RATE, SECONDS, ward.patients)
                )
                p50, p99 = np.percentile(values, [50, 99])
                runs.append({"ward": ward.name, "p50": float(p50), "p99": float(p99), "n": len(values)})
                report(f"{ward.name:<15} p50 {p50:6.2f} ms  p99 {p99:7.2f} ms")
    finally:
        stop(children)
    return {
        "runs": runs,
        "ratios": _ratios(runs),
        "bytes_per_patient": memory,
        "patients": many,
        "measurements_in_long_histories": HISTORY,
        "rate": RATE,
        "machine": machine(),
    }


def _fill(settings: Settings, prefix: str, ward: Ward) -> None:
    """Brings every patient into state; returns when the worker has answered the last."""
    producer = Producer(
        {"bootstrap.servers": settings.kafka_bootstrap, "linger.ms": 5, "partitioner": "murmur2_random"}
    )
    sent = 0
    for patient in range(ward.patients):
        for number in range(-(-ward.measurements // PER_EVENT)):
            value, headers, key = event(f"fill-{patient}-{number}", patient, ward.patients)
            if ward.measurements > 1:
                value = _long(number)
            producer.produce(f"{prefix}vitals", value=value, key=key, headers=headers)
            sent += 1
            if sent % 1000 == 0:
                producer.poll(0)
    producer.flush(60)
    asyncio.run(answered_until(settings.kafka_bootstrap, prefix, sent))


def _long(number: int) -> bytes:
    """`PER_EVENT` heart rates, evenly over the last two days; the numbers of one patient do not overlap."""
    step_ms = 48 * HOUR_MS // HISTORY
    newest = wall_ms() - number * PER_EVENT * step_ms
    return orjson.dumps(
        {
            "observations": [
                {"code": "8867-4", "value": 60.0 + i % 60, "unit": "/min", "time": from_ms(newest - i * step_ms)}
                for i in range(PER_EVENT)
            ]
        }
    )


def _rss(pid: int) -> int:
    """Resident bytes, proc(5)."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * 4096


def _redis_bytes(settings: Settings) -> int:
    with Redis.from_url(settings.redis_url) as redis:
        return int(redis.info("memory")["used_memory_dataset"])


def _ratios(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    def median(name: str, key: str) -> float:
        return statistics.median(run[key] for run in runs if run["ward"] == name)

    return {
        name: {f"{key}_vs_100_patients": median(name, key) / median("100 patients", key) for key in ("p50", "p99")}
        for name in ("many patients", "long histories")
    }
