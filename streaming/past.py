"""Reading back from Kafka: what a partition's owner read before, and what was published of its patients."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streaming.alerting import PolicyState
from streaming.errors import Unavailable
from streaming.published import Published
from streaming.rebuilding import Ranges
from streaming.records import InRecord
from streaming.turns import Turns

AT_ONCE = 500
"""Records, so that the event loop is held for milliseconds."""


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
            ends = await consumer.end_offsets(list(kinds))
            stops = {tp: min(ranges[kind][1], ends[tp]) for tp, kind in kinds.items()}
            for tp, kind in kinds.items():
                consumer.seek(tp, ranges[kind][0])
            async for tp, records in _up_to(consumer, stops):
                yield kinds[tp], records

    async def episodes(self, partition: int, below: Mapping[str, int], lost: Ranges) -> dict[str, PolicyState]:
        """`Published.episodes` of the patients of these events, at least: what was told of an event came after it, so that
        nothing older is read.

        Raises:
            Unavailable: Kafka does not answer.
        """
        since_ms = await self._oldest_ms(partition, lost)
        found, turns = Published(below), Turns()
        kinds = {TopicPartition(self._prefix + kind, partition): kind for kind in ("risk", "alerts")}
        async with self._consumer(kinds) as consumer:
            ends = await consumer.end_offsets(list(kinds))
            starts = await consumer.offsets_for_times(dict.fromkeys(kinds, since_ms))
            for tp in kinds:
                consumer.seek(tp, ends[tp] if starts[tp] is None else starts[tp].offset)
            async for tp, records in _up_to(consumer, ends):
                for record in records:
                    found.take(kinds[tp], record.key, record.value)
                    await turns.give()
        return found.episodes()

    async def _oldest_ms(self, partition: int, ranges: Ranges) -> int:
        """When the broker took the first record that is left of these ranges."""
        tps = {TopicPartition(self._prefix + kind, partition): first for kind, (first, _) in ranges.items()}
        async with self._consumer(tps) as consumer:
            ends = await consumer.end_offsets(list(tps))
            held = await consumer.beginning_offsets(list(tps))
            found = []
            for tp, first in tps.items():
                consumer.seek(tp, first)
                if max(first, held[tp]) < ends[tp]:
                    found.append((await consumer.getone(tp)).timestamp)
        return min(found, default=0)

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


async def _up_to(
    consumer: AIOKafkaConsumer, stops: Mapping[TopicPartition, int]
) -> AsyncIterator[tuple[TopicPartition, Sequence[InRecord]]]:
    """What comes of each partition below its stop, until all have reached theirs."""
    while any([await consumer.position(tp) < stop for tp, stop in stops.items()]):
        for tp, records in (await consumer.getmany(timeout_ms=500, max_records=AT_ONCE)).items():
            wanted = [record for record in records if record.offset < stops[tp]]
            if wanted:
                yield tp, wanted
