"""Work on the event loop lets others in."""

import asyncio
import sys
from types import SimpleNamespace

import pytest

from streaming import turns


@pytest.mark.parametrize(("step_s", "seen_by_others"), [(turns.HOLD_S, 5), (turns.HOLD_S / 2, 2), (0.0, 0)])
def test_others_get_a_turn_each_time_the_loop_was_held_long_enough(monkeypatch, step_s, seen_by_others):
    now = 0.0
    monkeypatch.setattr(turns, "time", SimpleNamespace(perf_counter=lambda: now))

    async def work():
        nonlocal now
        seen = 0

        async def other():
            nonlocal seen
            while True:
                seen += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        held = turns.Turns()
        for _ in range(5):
            now += step_s
            await held.give()
        task.cancel()
        return seen

    assert asyncio.run(work()) == seen_by_others


def test_a_thread_gives_way_sooner_than_a_step_may_hold_the_loop():
    usual = sys.getswitchinterval()
    try:
        turns.before_threads()
        assert sys.getswitchinterval() < turns.HOLD_S < usual
    finally:
        sys.setswitchinterval(usual)
