"""A Kafka transport for Faust in which one message is all that one fetch brought.

Owns: batching, where reading starts after an assignment, which offsets may be committed, co-partitioned assignment.
Leaves to Faust: membership, rebalances, flow control, the commit timer; to `engine.py`: what a batch does.

Rules that keep events from being lost (each was a way to lose them in stock Faust, see the delivery tests):
- `next_offset` is the first offset not yet handed out. A fetch that spans a rebalance is thrown away and its
  partitions are sought back to `next_offset`; a record below it is dropped.
- Only the ledger says what may be committed, and it knows finished work alone. What the group has committed never goes
  back: below it lies what was published, also while a state that Redis lost is made again.
- A take-over lasts as long as what it needs is away; only a stop or the next rebalance ends it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import faust
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalStateError
from faust.tables import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode.utils.futures import notify

from streaming.errors import Fatal
from streaming.fetch_scan import FetchScan
from streaming.fetch_sessions import FetchSessions
from streaming.ledger import Ledger

log = logging.getLogger(__name__)

MAX_POLL_S = 86_400.0
"""A consumer that has not fetched for so long leaves its group, and comes back only when it fetches: while Redis is away
it must not. What is stuck stops its heartbeats, which are of the same loop, or is found by `agent.STUCK_S`."""

Fetched = tuple[TP, Sequence[Any]]
"""A partition's records, in the order of their offsets, at least one."""

OnAssigned = Callable[[Mapping[TP, int | None]], Awaitable[Mapping[TP, int]]]
"""Given each assigned partition's committed offset (None: never), answers where reading starts."""


class _SameLoop:
    """Stands where mode starts an operating system thread: serves the consumer on the loop of its caller."""

    def __init__(self, service: "OneLoopConsumer") -> None:
        self._service = service

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._serve())

    def stop(self) -> None:
        """Called when the service has shut down; there is no thread to join."""

    async def _serve(self) -> None:
        try:
            await self._service._serve()
        except Exception:  # told to the app by `_serve`; as in mode's thread, whoever waits for the end must not hang
            self._service.set_shutdown()


class OneLoopConsumer(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread without the thread, and with co-partitioned assignment.

    One Python thread less to take turns with: two loops in one interpreter cost each fetched event several switches of
    the interpreter lock, up to 5 ms each. Ranges are assigned: partition p of every topic goes to the same worker,
    which so owns its patients whole.
    """

    def __init__(self, consumer: "BatchConsumer", loop: asyncio.AbstractEventLoop, beacon: Any) -> None:
        super().__init__(consumer, loop=loop, thread_loop=loop, Worker=_SameLoop, beacon=beacon)

    async def on_start(self) -> None:
        await super().on_start()
        fetcher = self._ensure_consumer()._fetcher
        fetcher._get_actions_per_node = self.app.scan = FetchScan(fetcher, self.app.hungry)

    async def _gather_remaining_tasks(self) -> None:
        """mode would cancel every task of the loop, which here is the worker's own."""

    async def getmany(self, active_partitions: Any, timeout: float) -> Any:
        """Without the queue that hands calls to the thread."""
        consumer = self._ensure_consumer()
        return await self._fetch_records(consumer, active_partitions, timeout, consumer._max_poll_records)

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._partition_assignment_strategy = (RangePartitionAssignor,)
        consumer._client = self.app.fetches = FetchSessions(consumer._client)
        return consumer


class BatchConsumer(driver.Consumer):
    """Faust's aiokafka consumer, a fetch at a time."""

    ledger: Ledger
    on_assigned_hook: OnAssigned

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ledger = self.app.batch_ledger
        self.on_assigned_hook = self.app.batch_on_assigned
        self._next_offset: dict[TP, int] = {}

    def _new_consumer_thread(self) -> OneLoopConsumer:
        return OneLoopConsumer(self, self.loop, self.beacon)

    async def perform_seek(self) -> None:
        """Runs after every assignment, before the first fetch: takes the partitions over, then seeks.

        Raises:
            Fatal: Kafka holds less of a topic than was read of it before.
        """
        assigned = set(self.assignment())
        if assigned:
            await super().perform_seek()
        self.ledger.clear(self.ledger.known())
        self._next_offset.clear()
        starts = await self.on_assigned_hook({tp: self._committed_offset[tp] for tp in assigned})
        held = await self.held(assigned)
        for tp, start in starts.items():
            earliest, end = held[tp]
            if (read := max(start, self._committed_offset[tp] or 0)) > end:
                raise Fatal(
                    f"{tp.topic} partition {tp.partition} was read up to offset {read}, but Kafka holds it up to {end} only: it "
                    "was made anew or has lost data, and what comes would be taken for read. Start anew under another "
                    "WARDWATCH_TOPIC_PREFIX, or after removing this one's Redis keys and consumer groups"
                )
            first = max(start, earliest)
            await self._seek(tp, first)
            if start and self._committed_offset[tp] is None:  # all below is stored; nothing else would ever say so
                self.ledger.delivered(tp, start)
                self.ledger.finished(tp, start)
            self._next_offset[tp] = first
            self._read_offset[tp] = None

    async def held(self, tps: Collection[TP]) -> dict[TP, tuple[int, int]]:
        """What Kafka holds of each: its first offset, and the one that the next event will have."""
        if not tps:
            return {}
        earliest, ends = await self.earliest_offsets(*tps), await self.highwaters(*tps)
        return {tp: (earliest[tp], ends[tp]) for tp in tps}

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        generation = self.app.consumer_generation_id
        records, active = await self._wait_next_records(timeout)
        if not records or self.should_stop:
            return
        current = self.flow_active and generation == self.app.consumer_generation_id
        brought: list[Fetched] = []
        refused: list[TP] = []
        for raw_tp, fetched in records.items():  # nothing is awaited before what was taken note of is handed out
            tp = TP(raw_tp.topic, raw_tp.partition)
            expected = self._next_offset.get(tp)
            if expected is None:
                continue
            if not (current and (active is None or tp in active or tp in self._buffered_partitions)):
                refused.append(tp)
                continue
            batch = [record for record in fetched if record.offset >= expected]
            if not batch:
                continue
            following = batch[-1].offset + 1
            self._next_offset[tp] = following
            self.ledger.delivered(tp, following)
            brought.append((tp, batch))
        if brought:
            yield brought[0][0], self._message(brought)
        for tp in refused:
            await self._seek_back(tp)

    async def _seek_back(self, tp: TP) -> None:
        position = self._next_offset.get(tp)
        if position is None:
            return
        try:
            await self._seek(tp, position)
        except IllegalStateError:  # no longer assigned: the next owner reads it
            log.debug("fetch of a partition that was revoked meanwhile is dropped")

    def _message(self, brought: list[Fetched]) -> ConsumerMessage:
        """Faust knows it as a message of the first partition."""
        tp, batch = brought[0]
        last = batch[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            (),
            None,
            brought,
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    def ack(self, message: Any) -> bool:
        """All batches of a fetch are finished. Faust's own list of acknowledged offsets is not kept: nothing would ever
        empty it."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)
        return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Faust's gap accounting is not used: the ledger knows batches, not single offsets."""

    def _new_offset(self, tp: TP) -> int | None:
        return self.ledger.committable(tp)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        for tp in self.ledger.known():
            if topics is None or tp in topics or tp.topic in topics:
                yield tp


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport with `BatchConsumer`."""

    Consumer = BatchConsumer


class RawBatchSchema(faust.Schema):
    """Passes the fetched records through: they are not decoded here."""

    def compile(self, app: Any, **_: Any) -> Any:
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, (), message)

        return decode


class AfterRebalance(Recovery):
    """What Faust does after a rebalance. Its limit in time would end this service, and with it the worker's work, when
    Redis is away for long; and who is assigned nothing must hear of it."""

    async def _wait(self, coro: Any, timeout: Any = None) -> None:
        await super()._wait(coro)

    async def _resume_streams(self, generation_id: int = 0) -> None:
        if not self.app.consumer.assignment():
            await self._wait(self.app.consumer.perform_seek())
        await super()._resume_streams(generation_id)


class NoTables(TableManager):
    """Keeps no tables, only what follows a rebalance."""

    @property
    def recovery(self) -> AfterRebalance:
        if self._recovery is None:
            self._recovery = AfterRebalance(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


class BatchApp(faust.App):
    """A Faust app over `BatchTransport`. `ledger`, `on_assigned` and `hungry` are its caller's; `fetches` and `scan` are
    there from the start on."""

    fetches: FetchSessions | None = None
    scan: FetchScan | None = None

    def __init__(
        self, *args: Any, ledger: Ledger, on_assigned: OnAssigned, hungry: Callable[[], bool], **kwargs: Any
    ) -> None:
        self.batch_ledger = ledger
        self.batch_on_assigned = on_assigned
        self.hungry = hungry
        super().__init__(*args, **kwargs)

    def fetch_on(self) -> None:
        """To be called when `hungry` may have become true."""
        if self.scan is not None:
            self.scan.wake()

    def _create_directories(self) -> None:
        """No tables, so nothing on disk."""

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)


def make_app(
    group: str,
    bootstrap: str,
    *,
    ledger: Ledger,
    on_assigned: OnAssigned,
    hungry: Callable[[], bool],
    session_timeout_s: float,
    commit_interval_s: float,
    instance_id: str | None,
    max_fetch_bytes: int = 48 << 20,
) -> BatchApp:
    """The Faust app of one worker process. No web server, no tables, no producer use, no state on disk."""
    brokers = [f"kafka://{server.strip()}" for server in bootstrap.split(",")]
    return BatchApp(
        group,
        broker=brokers,
        TableManager=NoTables,
        ledger=ledger,
        on_assigned=on_assigned,
        hungry=hungry,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        broker_session_timeout=session_timeout_s,
        broker_heartbeat_interval=min(0.5, session_timeout_s / 4),
        broker_request_timeout=max(30.0, session_timeout_s + 5),
        broker_rebalance_timeout=30.0,
        broker_max_poll_interval=MAX_POLL_S,
        broker_commit_interval=commit_interval_s,
        consumer_max_fetch_size=max_fetch_bytes,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=instance_id,
        stream_wait_empty=True,
        stream_buffer_maxsize=64,
        producer_request_timeout=30.0,
        loghandlers=[],
    )
