"""The board's Kafka side: `risk` of the last hours and all of `alerts`, then whatever comes, into the `Ward`."""

import asyncio
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streaming.board.ward import Ward
from streaming.clock import HOUR_MS, wall_ms
from streaming.errors import Unavailable
from streaming.kafka_reading import partitions_of

ASK_EVERY_S = 5.0
EXPIRE_EVERY_MS = 60_000


class Feed:
    """Reads without a group and commits nothing: any number of boards may look at the same ward.

    `state` is what the page has to say of it: `catching-up` until what lay there at the start is read, `live`, or
    `away` while Kafka does not answer.
    """

    def __init__(self, bootstrap: str, prefix: str, ward: Ward, hours: float) -> None:
        self._bootstrap, self._prefix, self._ward = bootstrap, prefix, ward
        self._keep_ms = int(hours * HOUR_MS)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._caught_up = self._away = False

    @property
    def state(self) -> str:
        if self._away:
            return "away"
        return "live" if self._caught_up else "catching-up"

    async def start(self) -> None:
        """Begins to read.

        Raises:
            Unavailable: Kafka does not answer, or the topics are missing.
        """
        try:
            await self._consumer.start()
            risk = await partitions_of(self._consumer, f"{self._prefix}risk")
            alerts = await partitions_of(self._consumer, f"{self._prefix}alerts")
            self._consumer.assign([*risk, *alerts])
            # Alerts are few and a standing one may be old; scores are many and only the newest counts.
            await self._consumer.seek_to_beginning(*alerts)
            since = await self._consumer.offsets_for_times(dict.fromkeys(risk, wall_ms() - self._keep_ms))
            ends = await self._consumer.end_offsets([*risk, *alerts])
        except (KafkaError, OSError) as error:
            await self._consumer.stop()
            raise Unavailable(f"Kafka at {self._bootstrap} does not answer ({type(error).__name__})") from error
        except Unavailable:
            await self._consumer.stop()
            raise
        for tp in risk:
            found = since.get(tp)
            self._consumer.seek(tp, found.offset if found is not None else ends[tp])
        self._tasks = [asyncio.create_task(self._read(ends)), asyncio.create_task(self._watch(risk[0]))]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        await self._consumer.stop()

    def failure(self) -> BaseException | None:
        """Why reading ended by itself, if it did."""
        done = (task for task in self._tasks if task.done() and not task.cancelled())
        return next((task.exception() or RuntimeError("the feed ended") for task in done), None)

    async def _read(self, ends: dict[TopicPartition, int]) -> None:
        expire_at_ms = wall_ms() + EXPIRE_EVERY_MS
        while True:
            batches = await self._consumer.getmany(timeout_ms=500, max_records=2_000)
            now = wall_ms()
            for tp, records in batches.items():
                if tp.topic.endswith("alerts"):
                    for record in records:
                        self._ward.take_alert(record.value, record.timestamp)
                else:
                    for record in records:
                        self._ward.take_risk(record.key, record.value, record.timestamp)
            if not self._caught_up and all([await self._consumer.position(tp) >= end for tp, end in ends.items()]):
                self._caught_up, expire_at_ms = True, now  # many of whom alerts of the past tell have long left
            if now >= expire_at_ms:
                expire_at_ms = now + EXPIRE_EVERY_MS
                self._ward.expire(now - self._keep_ms)

    async def _watch(self, tp: TopicPartition) -> None:
        """aiokafka waits in silence for a broker that is gone; the board has to say so."""
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            try:
                await asyncio.wait_for(self._consumer.end_offsets([tp]), ASK_EVERY_S)
            except (KafkaError, OSError, TimeoutError):
                self._away = True
            else:
                self._away = False
