"""The event loop's longest turn, by its own clock."""

import asyncio
import time

import pytest

from streaming import watched_loop
from streaming.watched_loop import WatchedLoop


def held_s() -> float:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WatchedLoop)
    return loop.held_s


def test_the_longest_turn_is_told() -> None:
    told = []

    async def main() -> None:
        await asyncio.sleep(0.2)  # waiting is no turn
        told.append(held_s())
        time.sleep(0.12)  # noqa: ASYNC251 - nobody else has a turn, and the thread does not wait for a processor
        await asyncio.sleep(0)
        told.append(held_s())
        await asyncio.sleep(0.01)
        told.append(held_s())

    watched_loop.run(main())
    assert told[0] < 0.1
    assert 0.12 <= told[1] == told[2]


def test_what_ended_long_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("streaming.watched_loop.time.perf_counter", lambda: now[0])

    async def main() -> None:
        await asyncio.sleep(0)
        now[0] += 0.5  # a turn of half a second
        await asyncio.sleep(0)
        assert held_s() >= 0.49
        now[0] += watched_loop.KEPT_S + 1
        assert held_s() == 0.0

    watched_loop.run(main())
