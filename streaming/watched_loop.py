"""An event loop that knows how long it was held: the longest time between two looks at what is ready.

Every turn is measured, not a sample of them. What the thread waited for a processor meanwhile, by schedstat of Linux, is
taken off: that is the machine's doing, and where the system does not tell, it counts as held.
"""

import asyncio
import os
import selectors
import time
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

KEPT_S = 10
WORTH_ASKING_S = 0.001
"""Shorter turns are not asked about what they waited."""


class _HeldSelector(selectors.DefaultSelector):
    """Measures from where a look returns to where the next begins. For one thread, the one that makes it."""

    def __init__(self) -> None:
        super().__init__()
        self._worst: deque[tuple[int, float]] = deque()  # of each second that had a turn
        self._schedstat: int | None = None
        with suppress(OSError):
            self._schedstat = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        self._begin()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._end(time.perf_counter())
        ready = super().select(timeout)
        self._begin()
        return ready

    def close(self) -> None:
        super().close()
        if self._schedstat is not None:
            os.close(self._schedstat)
            self._schedstat = None

    def worst_s(self) -> float:
        """The longest of the last `KEPT_S` seconds."""
        self._forget(time.perf_counter())
        return max((held_s for _, held_s in self._worst), default=0.0)

    def _begin(self) -> None:
        self._waited_s, self._since = self._waited(), time.perf_counter()

    def _end(self, now: float) -> None:
        held_s, second = now - self._since, int(now)
        if held_s > WORTH_ASKING_S:
            held_s = max(0.0, held_s - (self._waited() - self._waited_s))
        if not self._worst or self._worst[-1][0] != second:
            self._forget(now)
            self._worst.append((second, held_s))
        elif held_s > self._worst[-1][1]:
            self._worst[-1] = (second, held_s)

    def _forget(self, now: float) -> None:
        while self._worst and self._worst[0][0] <= now - KEPT_S:
            self._worst.popleft()

    def _waited(self) -> float:
        """Seconds that this thread was ready to run and did not, proc(5)."""
        return 0.0 if self._schedstat is None else int(os.pread(self._schedstat, 64, 0).split()[1]) / 1e9


class WatchedLoop(asyncio.SelectorEventLoop):
    """Its selector measures."""

    def __init__(self) -> None:
        self._watching = _HeldSelector()
        super().__init__(self._watching)

    @property
    def held_s(self) -> float:
        """The longest that nobody else got a turn, of the last `KEPT_S` seconds."""
        return self._watching.worst_s()


def run(main: Coroutine[Any, Any, None]) -> None:
    """As `asyncio.run`, on a watched loop."""
    with asyncio.Runner(loop_factory=WatchedLoop) as runner:
        runner.run(main)
