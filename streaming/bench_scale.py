"""From measured slopes to a plan: how many workers, cores and partitions a hospital or a country needs.

A worker is a server that takes what waits, up to a micro-batch, and needs `start_ms + each_ms * events` of a core for
it; both come from the committed results of `bench latency` (one event a batch) and `bench throughput` (full batches).
To each event comes what `bench growth` found that a longer history adds, and so to Redis' memory.
Patients are spread over workers by hash, so each worker is a queue of its own with its share of a Poisson stream; its
waiting times are simulated, event by event. No worker is planned more patients than its cache holds with their
histories. What the plan leaves out: brokers and Redis, the network, and that hashing is never quite even.
"""

from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.window import HOURS
from streaming.bench_page import medians
from streaming.blocks import RESOLUTION_MS
from streaming.latency import machine
from streaming.observations import WINDOW_MS
from streaming.session import CACHED_MEASUREMENTS, CACHED_PATIENTS

BATCH = 64
TARGET_P99_MS = 50.0
FULLEST = 0.7
"""No worker is planned busier than this, so that one can take over from another."""
SIMULATED_EVENTS = 20_000

CHARTED_PER_BED_H = 60.0
"""Events an hour and bed that are charted in intensive care; the MIMIC-III demo has fewer."""
CHARTED = round(HOURS * CHARTED_PER_BED_H)
AT_1_HZ = 6 * WINDOW_MS // RESOLUTION_MS
"""Measurements of each patient in state: charted ones one an event, of monitors six signals' newest in every minute."""


@dataclass(frozen=True, slots=True)
class Place:
    """Somebody who would run this, the events of it a second, and how many measurements each of its patients has."""

    name: str
    patients: int
    events_per_s: float
    history: int


PLACES = (
    Place("a hospital: 1,000 beds, charted", 1_000, 1_000 * CHARTED_PER_BED_H / 3600, CHARTED),
    Place("a country: 100,000 intensive care beds, charted", 100_000, 100_000 * CHARTED_PER_BED_H / 3600, CHARTED),
    Place("monitors at 1 Hz: 580,000 events/s", 580_000, 580_000, AT_1_HZ),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of a core for a micro-batch of n events: `start_ms + each_ms * n`."""

    start_ms: float
    each_ms: float

    def of(self, events: int) -> float:
        return self.start_ms + self.each_ms * events


AT_WORK_PER_S = 100
"""At fewer events a second most of what a worker spends is what it spends at rest, on timers and empty fetches."""


def cost(latency: dict[str, Any], throughput: dict[str, Any]) -> Cost:
    """From the two results; an event alone costs what it costs at the lowest measured rate that keeps a worker at work."""
    rates = {run["rate"] for run in latency["runs"]}
    alone_at = min((rate for rate in rates if rate >= AT_WORK_PER_S), default=max(rates))
    alone = median(
        run["cpu_ms_per_event"] for run in latency["runs"] if run["rate"] == alone_at and run["name"] == "wardwatch"
    )
    full = median(run["per_cpu_s"] for run in throughput["runs"] if run["system"] == "wardwatch scored")
    each_ms = 1e3 / full
    return Cost(max(0.0, alone - each_ms), each_ms)


@dataclass(frozen=True, slots=True)
class Growth:
    """What each measurement in a patient's history adds: ms of a core to each event, bytes to Redis. `patient_bytes`: what
    a patient takes there without any."""

    ms: float
    redis_bytes: float
    patient_bytes: float


def growth_of(growth: dict[str, Any]) -> Growth:
    """Least squares over the wards of few patients, whose histories differ."""
    wards = {name: w["measurements"] for name, w in growth["wards"].items() if w["patients"] == growth["few"]}
    told = medians(growth["runs"], "ward", "cpu_ms_per_event")
    spent = [told[name]["cpu_ms_per_event"] for name in wards]
    held = [growth["bytes_per_patient"][name]["redis"] for name in wards]
    ms, _ = np.polyfit(list(wards.values()), spent, 1)
    stored, bare = np.polyfit(list(wards.values()), held, 1)
    return Growth(max(0.0, float(ms)), float(stored), max(0.0, float(bare)))


def waits(rate_per_s: float, of: Cost, seed: int) -> NDArray[np.float64]:
    """Milliseconds from arrival to the end of its batch, one per simulated event, of one worker at a Poisson rate."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1e3 / rate_per_s, SIMULATED_EVENTS))
    values = np.empty(SIMULATED_EVENTS)
    now, done = 0.0, 0
    while done < SIMULATED_EVENTS:
        now = max(now, float(arrivals[done]))
        taken = slice(done, min(done + BATCH, int(arrivals.searchsorted(now, side="right"))))
        done = taken.stop
        now += of.of(taken.stop - taken.start)
        values[taken] = now - arrivals[taken]
    return values


def plan(latency: dict[str, Any], throughput: dict[str, Any], growth: dict[str, Any], seed: int) -> dict[str, Any]:
    """`places`: per place the fewest workers whose p99 holds the target and whose load stays below the fullest."""
    alone, grown = cost(latency, throughput), growth_of(growth)
    places = {}
    for place in PLACES:
        of = Cost(alone.start_ms, alone.each_ms + grown.ms * place.history)
        workers = max(
            1,
            ceil(place.events_per_s * of.each_ms / 1e3 / FULLEST),
            ceil(place.patients / CACHED_PATIENTS),
            ceil(place.patients * place.history / CACHED_MEASUREMENTS),
        )
        while True:
            rate = place.events_per_s / workers
            values = waits(rate, of, seed)
            p50, p99 = np.percentile(values, [50, 99])
            if p99 <= TARGET_P99_MS:
                break
            workers += max(1, workers // 10)
        places[place.name] = {
            "events_per_s": place.events_per_s,
            "measurements_per_patient": place.history,
            "redis_gib": place.patients * (grown.patient_bytes + place.history * grown.redis_bytes) / 2**30,
            "workers": workers,
            "partitions": 4 * workers,
            "events_per_s_and_worker": rate,
            "p50_ms": float(p50),
            "p99_ms": float(p99),
        }
    return {
        "places": places,
        "cost_ms": {"start": alone.start_ms, "each": alone.each_ms, "each, per 1,000 measurements": 1_000 * grown.ms},
        "target_p99_ms": TARGET_P99_MS,
        "seed": seed,
        "measured": [latency["machine"], throughput["machine"], growth["machine"]],
        "machine": machine(),
    }
