"""The Faust agent: hands fetched batches to the engine and acknowledges them when it says so. Nothing else.

Runs for both workers; only the topics differ. Owns the life of a worker process: start, signals, fatal end.
"""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial

from aiokafka.errors import KafkaError
from faust.types import TP

from streaming import garbage
from streaming.engine import Engine, Observer, Work
from streaming.errors import Fatal, Unavailable, WardwatchError
from streaming.faust_transport import BatchApp, RawBatchSchema, make_app
from streaming.ledger import Ledger
from streaming.pipeline import Batch
from streaming.settings import Settings

log = logging.getLogger(__name__)

STOP_S = 15.0
"""A worker told to stop ends within this, even when Kafka or Redis is away: what is not committed is read again."""

STUCK_S = 60.0
"""An idle consumer asks the broker at least every 1.5 s. One that has not for so long is stuck: only a new process
helps. Work that waits, or something that is away, is no such case."""
WATCH_EVERY_S = 1.0


class Worker:
    """One worker process: a Faust app, an engine, and the work."""

    def __init__(self, role: str, topics: Sequence[str], work: Work, observer: Observer, settings: Settings) -> None:
        self.role = role
        self._settings = settings
        self._ledger = Ledger()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.engine = Engine(work, observer, self._fatal, self._fetch_on)
        self.app: BatchApp = make_app(
            f"{settings.topic_prefix}wardwatch-{role}",
            settings.kafka_bootstrap,
            ledger=self._ledger,
            on_assigned=self._on_assigned,
            hungry=self.engine.hungry,
            session_timeout_s=settings.session_timeout_s,
            commit_interval_s=settings.commit_interval_s,
            instance_id=f"{settings.topic_prefix}{role}-{settings.instance}" if settings.instance else None,
        )
        self.assigned = 0
        self._attach([settings.topic_prefix + topic for topic in topics])

    async def run(self) -> None:
        """Until SIGTERM or SIGINT.

        Raises:
            Fatal: going on could lose or double something; the supervisor starts a new process.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        self.engine.start()
        await self.app.start()
        crashed = asyncio.ensure_future(self.app.wait_until_stopped())
        watching = asyncio.create_task(self._watch(), name="stuck-consumer-watch")
        try:
            await asyncio.wait({self._ended, crashed}, return_when=asyncio.FIRST_COMPLETED)
            if not self._ended.done():
                reason = self.app.crash_reason
                raise (
                    reason
                    if isinstance(reason, WardwatchError)
                    else Fatal(f"Kafka client ended: {type(reason).__name__}")
                )
            self._ended.result()
            await self.app.stop()  # waits for what is in flight, then commits
        finally:
            crashed.cancel()
            watching.cancel()
            await self.engine.stop()

    async def beside(self, work: Awaitable[None]) -> None:
        """Runs something beside the stream; where it fails the worker ends."""
        try:
            await work
        except Exception as error:
            self._fatal(error)

    async def arrived(self) -> dict[int, dict[str, int]]:
        """Per partition that this worker owns, of every of its topics that holds something, the offset below which all has
        arrived by now.

        Raises:
            Unavailable: Kafka does not answer.
        """
        owned = self.app.consumer.assignment()
        try:
            held = await self.app.consumer.held(owned)
        except KafkaError as error:
            raise Unavailable(f"Kafka does not answer ({type(error).__name__})") from error
        found: dict[int, dict[str, int]] = {tp.partition: {} for tp in owned}
        for tp, (earliest, end) in held.items():
            if end > earliest:
                found[tp.partition][tp.topic.removeprefix(self._settings.topic_prefix)] = end
        return found

    def _attach(self, names: Sequence[str]) -> None:
        topic = self.app.topic(*names, schema=RawBatchSchema())
        kinds = {name: name.removeprefix(self._settings.topic_prefix) for name in names}

        @self.app.agent(topic, name="wardwatch.batches", concurrency=1)
        async def batches(stream):  # type: ignore[no-untyped-def]
            async for event in stream.noack().events():
                message, now_ms = event.message, time.time() * 1e3
                unfinished = {tp for tp, _ in message.value}
                for tp, records in message.value:
                    batch = Batch(kinds[tp.topic], tp.partition, records, now_ms)
                    done = partial(self._acknowledge, message, unfinished, tp, records[-1].offset + 1)
                    await self.engine.submit(batch, done)

    def _fetch_on(self) -> None:
        self.app.fetch_on()

    async def _watch(self) -> None:
        idle_since = time.monotonic()
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            if not self.engine.waiting:
                garbage.tidy()
            now = time.monotonic()
            if not self.assigned or self.engine.waiting or self.engine.paused or self.app.fetches is None:
                idle_since = now
            elif now - max(idle_since, self.app.fetches.last_ended) > STUCK_S:
                self._fatal(Fatal(f"the consumer has fetched nothing for {STUCK_S:.0f} s and nothing else is away"))

    def _acknowledge(self, message, unfinished: set[TP], tp: TP, following: int) -> None:  # type: ignore[no-untyped-def]
        """A partition's batch is finished, and with the last of them the fetch that brought it."""
        self._ledger.finished(tp, following)
        unfinished.discard(tp)
        if not unfinished:
            message.ack(self.app.consumer)

    async def _on_assigned(self, committed: Mapping[TP, int | None]) -> Mapping[TP, int]:
        by_partition: dict[int, dict[str, int | None]] = {}
        prefix = self._settings.topic_prefix
        for tp, offset in committed.items():
            by_partition.setdefault(tp.partition, {})[tp.topic.removeprefix(prefix)] = offset
        self.assigned = 0
        starts = await self.engine.take_over(by_partition)
        self.assigned = len(by_partition)
        log.info("assigned %d partitions", len(by_partition))
        return {
            TP(prefix + topic, partition): offset
            for partition, topics in starts.items()
            for topic, offset in topics.items()
        }

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
        # A thread, not a task: it holds even if the loop is stuck.
        deadline = threading.Timer(STOP_S, self._give_up)
        deadline.daemon = True
        deadline.start()

    def _give_up(self) -> None:
        log.critical(
            "the %s worker ends: it could not stop within %.0f s; nothing more was committed", self.role, STOP_S
        )
        logging.shutdown()
        os._exit(1)

    def _fatal(self, error: BaseException) -> None:
        if self._ended.done():
            return
        if isinstance(error, WardwatchError):
            self._ended.set_exception(error)
        else:
            # The text of a foreign error may quote an event; only its kind and place are told.
            log.error("unexpected %s", type(error).__name__, exc_info=error if _debug() else None)
            self._ended.set_exception(Fatal(f"unexpected {type(error).__name__} in the engine"))


def _debug() -> bool:
    return log.isEnabledFor(logging.DEBUG)
