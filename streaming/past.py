"""Reading back from Kafka: what a partition's owner read before, and what was published of its patients."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streaming.errors import Unavailable
from streaming.published import Published, Told
from streaming.rebuilding import Ranges
from streaming.records import InRecord
from streaming.turns import Turns

AT_ONCE = 500
"""Records, so that the event loop is held for milliseconds."""
PATIENCE_S = 30.0
CLOCKS_DIFFER_MS = 60_000
"""Between brokers, at most."""


class Past:
    """`rebuilding.Past` on a cluster: consumers without a group, which commit nothing."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._bootstrap = bootstrap
        self._prefix = prefix

    async def records(self, partition: int, ranges: Ranges) -> AsyncIterator[tuple[str, Sequence[InRecord]]]:
        """What is left of these ranges, a topic's records in order.

        Raises:
            Unavailable: Kafka does not answer.
        """
        kinds = {TopicPartition(self._prefix + kind, partition): kind for kind in ranges}
        async with self._consumer(kinds) as consumer:
            held, ends = await consumer.beginning_offsets(list(kinds)), await consumer.end_offsets(list(kinds))
            stops = {tp: min(ranges[kind][1], ends[tp]) for tp, kind in kinds.items()}
            for tp, kind in kinds.items():
                consumer.seek(tp, max(ranges[kind][0], held[tp]))
            async for tp, records in _up_to(consumer, stops):
                yield kinds[tp], records

    async def told(self, partition: int, below: Mapping[str, int], stored: Mapping[str, int]) -> dict[str, Told]:
        """`Published.told`, of all of whom anything was published since the oldest of these records, by topic, was taken; all
        there is, where a record is not kept any longer, or its offset is -1.

        Raises:
            Unavailable: Kafka does not answer.
        """
        found, turns = Published(below), Turns()
        inputs = {TopicPartition(self._prefix + kind, partition): offset for kind, offset in stored.items()}
        kinds = {TopicPartition(self._prefix + kind, partition): kind for kind in ("risk", "alerts")}
        async with self._consumer(inputs) as consumer:
            since_ms = await _oldest_ms(consumer, inputs)
            consumer.assign(list(kinds))
            ends = await consumer.end_offsets(list(kinds))
            starts = await consumer.offsets_for_times(dict.fromkeys(kinds, since_ms))
            for tp in kinds:
                consumer.seek(tp, ends[tp] if starts[tp] is None else starts[tp].offset)
            async for tp, records in _up_to(consumer, ends):
                for record in records:
                    found.take(kinds[tp], record.key, record.value, record.timestamp)
                    await turns.give()
        return found.told()

    @asynccontextmanager
    async def _consumer(self, tps: Iterable[TopicPartition]) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        try:
            await consumer.start()
            consumer.assign(list(tps))
            yield consumer
        except (KafkaError, OSError) as error:
            raise Unavailable(f"Kafka does not answer ({type(error).__name__})") from error
        finally:
            await consumer.stop()


async def _oldest_ms(consumer: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]) -> int:
    """When the broker took the oldest of these records, and some time before; 0 when one is not kept."""
    held, ends = await consumer.beginning_offsets(list(offsets)), await consumer.end_offsets(list(offsets))
    if not all(held[tp] <= offset < ends[tp] for tp, offset in offsets.items()):
        return 0
    for tp, offset in offsets.items():
        consumer.seek(tp, offset)
    found = []
    async for _, records in _up_to(consumer, {tp: offset + 1 for tp, offset in offsets.items()}):
        found += [record.timestamp for record in records]
    return max(0, min(found, default=0) - CLOCKS_DIFFER_MS)


async def _up_to(
    consumer: AIOKafkaConsumer, stops: Mapping[TopicPartition, int]
) -> AsyncIterator[tuple[TopicPartition, Sequence[InRecord]]]:
    """What comes of each partition below its stop, until all have reached theirs.

    Raises:
        Unavailable: nothing comes any more. aiokafka waits in silence for a broker that is gone.
    """
    moved, before = time.monotonic(), None
    while True:
        try:
            async with asyncio.timeout(PATIENCE_S):
                positions = {tp: await consumer.position(tp) for tp in stops}
        except TimeoutError:
            raise Unavailable("Kafka does not answer (reading back)") from None
        if all(position >= stops[tp] for tp, position in positions.items()):
            return
        if positions != before:
            moved, before = time.monotonic(), positions
        elif time.monotonic() - moved > PATIENCE_S:
            raise Unavailable("Kafka does not answer (reading back)")
        for tp, records in (await consumer.getmany(timeout_ms=500, max_records=AT_ONCE)).items():
            wanted = [record for record in records if record.offset < stops[tp]]
            if wanted:
                yield tp, wanted
