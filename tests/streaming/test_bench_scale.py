"""The queueing simulation behind `bench scale` against what is known of such queues."""

import numpy as np
import pytest

from streaming.bench_scale import Cost, Growth, cost, growth_of, plan, waits
from streaming.session import CACHED_MEASUREMENTS


def test_an_idle_worker_answers_in_the_time_of_one_event() -> None:
    values = waits(rate_per_s=0.5, of=Cost(1.0, 0.5), seed=1)
    assert np.median(values) == pytest.approx(1.5)
    assert values.min() >= 1.5 - 1e-6  # never sooner than the work takes


def test_waiting_time_without_batches_is_that_of_the_md1_queue() -> None:
    """Pollaczek-Khinchine: mean wait of M/D/1 is s (1 + rho / (2 (1 - rho))); batches of equal cost keep the work."""
    service_ms, load = 1.0, 0.5
    values = waits(rate_per_s=1e3 * load / service_ms, of=Cost(0.0, service_ms), seed=3)
    single = service_ms * (1 + load / (2 * (1 - load)))
    assert single <= values.mean() <= single * 1.5  # a batch ends together, so its first waits for its last


def test_what_every_batch_shares_lets_a_fuller_worker_carry_more() -> None:
    shared, alone = Cost(1.0, 0.1), Cost(0.0, 1.1)
    rate = 1_500.0  # more than 1 / 1.1 ms
    assert np.percentile(waits(rate, shared, seed=2), 99) < 20
    assert np.percentile(waits(rate, alone, seed=2), 99) > 1_000


def test_what_a_worker_spends_at_rest_is_no_events_cost() -> None:
    spent = {10: 4.9, 100: 2.0, 1000: 0.8}
    runs = [{"rate": rate, "name": "wardwatch", "cpu_ms_per_event": ms} for rate, ms in spent.items()]
    full = {"runs": [{"system": "wardwatch scored", "per_cpu_s": 2_000.0}]}
    assert cost({"runs": runs}, full) == Cost(1.5, 0.5)
    assert cost({"runs": runs[:1]}, full) == Cost(4.4, 0.5)


GROWTH = {
    "few": 100,
    "wards": {
        "few": {"patients": 100, "measurements": 1},
        "long": {"patients": 100, "measurements": 1_001},
        "many": {"patients": 9_000, "measurements": 1},
    },
    "runs": [
        {"ward": ward, "cpu_ms_per_event": ms}
        for ward, ms in (("few", 1.0), ("long", 1.5), ("many", 9.0), ("few", 1.0))
    ],
    "bytes_per_patient": {"few": {"redis": 1_000.0}, "long": {"redis": 31_000.0}, "many": {"redis": 7.0}},
    "machine": {},
}


def test_what_a_longer_history_adds_is_told_by_wards_of_as_many_patients() -> None:
    found = growth_of(GROWTH)
    assert found == Growth(pytest.approx(0.0005), pytest.approx(30.0), pytest.approx(970.0))


def test_longer_histories_need_more_workers() -> None:
    latency = {"runs": [{"rate": 100, "name": "wardwatch", "cpu_ms_per_event": 2.0}], "machine": {}}
    full = {"runs": [{"system": "wardwatch scored", "per_cpu_s": 2_000.0}], "machine": {}}
    short = GROWTH | {"runs": [{"ward": name, "cpu_ms_per_event": 1.0} for name in GROWTH["wards"]]}
    fewer, more = (plan(latency, full, growth, 1)["places"] for growth in (short, GROWTH))
    name = "monitors at 1 Hz: 580,000 events/s"
    assert more[name]["workers"] > 10 * fewer[name]["workers"]
    assert more[name]["redis_gib"] == pytest.approx(580_000 * (970 + 17_280 * 30) / 2**30)


def test_every_patient_is_in_the_cache_of_its_worker() -> None:
    latency = {"runs": [{"rate": 100, "name": "wardwatch", "cpu_ms_per_event": 0.001}], "machine": {}}
    full = {"runs": [{"system": "wardwatch scored", "per_cpu_s": 1e6}], "machine": {}}
    free = GROWTH | {"runs": [{"ward": name, "cpu_ms_per_event": 0.001} for name in GROWTH["wards"]]}
    for place in plan(latency, full, free, 1)["places"].values():
        patients = {17_280: 580_000, 2_880: 100_000}[place["measurements_per_patient"]]
        if place["events_per_s"] > 1_000:
            assert place["workers"] >= patients * place["measurements_per_patient"] / CACHED_MEASUREMENTS
