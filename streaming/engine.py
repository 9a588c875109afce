"""The loop that drains what waits into the next micro-batch while earlier ones are stored and published.

Owns the inbox, its back-pressure in bytes, the batches in flight, pauses when something is away, and the end when
something is fatal. Knows neither Faust nor what a batch means: both workers run on it.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from streaming.errors import Unavailable
from streaming.session import Ahead, Batch

log = logging.getLogger(__name__)

INBOX_BYTES = 64 << 20
BATCH_RECORDS = 256
FETCHED_AHEAD = 64
"""Batches that wait, at most, when the engine is behind and more is fetched."""
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
UNCONFIRMED_AT_MOST = 64
"""Batches stored and handed to the producer whose confirmation by the broker is due."""
FORGET_EVERY_S = 0.02
"""Confirmed outbox entries are cleared, and their events acknowledged, together: no reader waits for either."""


class Outcome(Protocol):
    """What every pipeline's outcome tells the engine."""

    counts: dict[str, int]
    stage_ms: dict[str, float]


class Work(Protocol):
    """What the engine runs. Fixed: `process` may be repeated after `Unavailable`, and so may `store` and `forget`;
    `publish` keeps the order of its calls, and its future ends with the ms until the broker had confirmed all.

    What stands in `ahead` is done before a batch waits with the others, in order within its kind, while other kinds go by.
    """

    ahead: Ahead

    async def take_over(self, committed: Mapping[int, Mapping[str, int | None]]) -> dict[int, dict[str, int]]: ...
    async def process(self, batches: Sequence[Batch]) -> Any: ...
    async def store(self, outcome: Any) -> None: ...
    def publish(self, outcome: Any) -> asyncio.Future[float]: ...
    async def forget(self, outcomes: Sequence[Any]) -> None: ...


class Observer(Protocol):
    """Hears of everything that an operator would want to see."""

    def batch_done(self, records: int, outcome: Outcome) -> None: ...
    def paused(self, what: str | None) -> None:
        """What is away; None when work goes on."""
        ...

    def waiting(self, batches: int) -> None: ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    batch: Batch
    size: int
    done: Callable[[], None]


class Engine:
    """One per worker process. `fatal` is called once, with what ended it; nothing of that batch is acknowledged.
    `fetch_on` is called when `hungry` may have become true."""

    def __init__(
        self,
        work: Work,
        observer: Observer,
        fatal: Callable[[BaseException], None],
        fetch_on: Callable[[], None],
    ) -> None:
        self._work = work
        self._observer = observer
        self._fatal = fatal
        self._fetch_on = fetch_on
        self._inbox: deque[_Waiting] = deque()
        self._slow: dict[str, deque[_Waiting]] = {kind: deque() for kind in work.ahead}
        self._bytes = 0
        self._computing = False
        self._behind = False  # more waits than one batch takes
        self._arrived = asyncio.Event()
        self._slow_arrived = {kind: asyncio.Event() for kind in work.ahead}
        self._room = asyncio.Event()
        self._room.set()
        self._gate = asyncio.Lock()
        self._settling: asyncio.Queue[tuple[list[_Waiting], Any]] = asyncio.Queue(maxsize=1)
        self._published: asyncio.Queue[tuple[list[_Waiting], Any, asyncio.Future[float]]] = asyncio.Queue(
            maxsize=UNCONFIRMED_AT_MOST
        )
        self._tasks: list[asyncio.Task[None]] = []
        self.finished_batches = 0
        self.paused = False  # something that the work needs is away

    def start(self) -> None:
        loops = {"compute": self._compute, "settle": self._settle, "acknowledge": self._acknowledge}
        loops |= {kind: partial(self._go_ahead, kind) for kind in self._work.ahead}
        self._tasks = [asyncio.create_task(self._guarded(loop), name=f"engine-{name}") for name, loop in loops.items()]

    async def stop(self) -> None:
        """Ends the loops. What was not acknowledged stays so, and is read again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def waiting(self) -> int:
        """What has arrived and is not stored: batches in the inbox and on their way to it, and those that are computed or
        wait for the store, all of one turn counted as one."""
        return self._held_back() + len(self._inbox) + self._computing + self._settling.qsize()

    def _held_back(self) -> int:
        return sum(map(len, self._slow.values()))

    def hungry(self) -> bool:
        """Whether to fetch more. While a batch is computed, what comes is left to one fetch afterwards: each costs broker
        and worker the same, whatever it brings. With more at hand than a batch takes, fetching goes on beside computing."""
        idle = not self._computing and not self._inbox
        return self._room.is_set() and (idle or self._behind) and len(self._inbox) + self._held_back() < FETCHED_AHEAD

    async def submit(self, batch: Batch, done: Callable[[], None]) -> None:
        """Hands a batch over; waits while the inbox holds too many bytes. `done` acknowledges it."""
        await self._room.wait()
        waiting = _Waiting(batch, batch.size_bytes, done)
        self._bytes += waiting.size
        if self._bytes >= INBOX_BYTES:
            self._room.clear()
        if batch.kind in self._slow:
            self._slow[batch.kind].append(waiting)
            self._slow_arrived[batch.kind].set()
        else:
            self._line_up(waiting)

    def _line_up(self, waiting: _Waiting) -> None:
        self._inbox.append(waiting)
        self._arrived.set()
        self._observer.waiting(len(self._inbox))

    async def _go_ahead(self, kind: str) -> None:
        lane, arrived, step = self._slow[kind], self._slow_arrived[kind], self._work.ahead[kind]
        while True:
            await arrived.wait()
            if lane:
                waiting = lane[0]
                await step(waiting.batch)
                if lane and lane[0] is waiting:  # no take-over dropped it meanwhile
                    self._line_up(lane.popleft())
            if not lane:
                arrived.clear()

    async def take_over(self, committed: Mapping[int, Mapping[str, int | None]]) -> dict[int, dict[str, int]]:
        """After an assignment: drops what waits (it is read again), lets what is in flight end, starts sessions."""
        async with self._gate:
            self._inbox.clear()
            for lane in self._slow.values():
                lane.clear()
            self._bytes = 0
            self._room.set()
            self._fetch_on()
            await self._settling.join()
            return await self._patiently(lambda: self._work.take_over(committed))

    async def interject(self, step: Callable[[], Awaitable[Any]]) -> None:
        """Work that no batch brought: runs between two batches, then is stored and published like theirs."""
        async with self._gate:
            outcome = await self._patiently(step)
            await self._settling.put(([], outcome))

    def _take(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        records = 0
        while self._inbox and (not taken or records + len(self._inbox[0].batch.records) <= BATCH_RECORDS):
            waiting = self._inbox.popleft()
            records += len(waiting.batch.records)
            self._bytes -= waiting.size
            taken.append(waiting)
        if self._bytes < INBOX_BYTES:
            self._room.set()
        if not self._inbox:
            self._arrived.clear()
        self._behind = 2 * records > BATCH_RECORDS
        return taken

    async def _compute(self) -> None:
        while True:
            await self._arrived.wait()
            async with self._gate:
                taken = self._take()
                if not taken:
                    continue
                self._computing = True
                if self._behind:
                    self._fetch_on()
                batches = [waiting.batch for waiting in taken]
                outcome = await self._patiently(lambda batches=batches: self._work.process(batches))
                self._computing = False
                self._fetch_on()
                await self._settling.put((taken, outcome))

    async def _settle(self) -> None:
        """One after the other: each write names the offsets that it follows. What is stored is on its way at once."""
        while True:
            taken, outcome = await self._settling.get()
            started = time.perf_counter()
            await self._patiently(lambda outcome=outcome: self._work.store(outcome))
            outcome.stage_ms["write"] = (time.perf_counter() - started) * 1e3
            await self._published.put((taken, outcome, self._work.publish(outcome)))

    async def _acknowledge(self) -> None:
        while True:
            published = [await self._published.get()]
            await asyncio.sleep(FORGET_EVERY_S)
            while not self._published.empty():
                published.append(self._published.get_nowait())
            for _, outcome, confirmed in published:
                outcome.stage_ms["publish"] = await confirmed
            outcomes = [outcome for _, outcome, _ in published]
            await self._patiently(lambda outcomes=outcomes: self._work.forget(outcomes))
            for taken, outcome, _ in published:
                for waiting in taken:
                    waiting.done()
                self.finished_batches += len(taken)
                self._observer.batch_done(sum(len(waiting.batch.records) for waiting in taken), outcome)
                self._settling.task_done()

    async def _patiently(self, step: Callable[[], Awaitable[Any]]) -> Any:
        """Runs a step; while something it needs is away, pauses, says so, and tries again."""
        pause_s = FIRST_PAUSE_S
        was_away = False
        try:
            while True:
                try:
                    answer = await step()
                except Unavailable as error:
                    if not was_away:
                        log.warning("paused: %s", error)
                    was_away = self.paused = True
                    self._observer.paused(str(error))
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                else:
                    if was_away:
                        log.warning("going on")
                    return answer
        finally:  # also of a take-over that the next rebalance cuts short
            if was_away:
                self.paused = False
                self._observer.paused(None)

    async def _guarded(self, loop: Callable[[], Awaitable[None]]) -> None:
        try:
            await loop()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._fatal(error)
