"""The queueing simulation behind `bench scale` against what is known of such queues."""

import numpy as np
import pytest

from streaming.bench_scale import Cost, cost, waits


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
