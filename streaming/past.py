"""Reading back from Kafka: what a partition's owner read before, and what was published of its patients."""

from collections.abc import AsyncIterator, Mapping, Sequence
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

    async def episodes(self, partition: int, below: Mapping[str, int]) -> dict[str, PolicyState]:
        """`Published.episodes` of the partition.

        Raises:
            Unavailable: Kafka does not answer.
        """
        found, turns = Published(below), Turns()
        kinds = {TopicPartition(self._prefix + kind, partition): kind for kind in ("risk", "alerts")}
        async with self._consumer(kinds) as consumer:
            await consumer.seek_to_beginning(*kinds)
            async for tp, records in _up_to(consumer, await consumer.end_offsets(list(kinds))):
                for record in records:
                    found.take(kinds[tp], record.key, record.value)
                    await turns.give()
        return found.episodes()

    @asynccontextmanager
    async def _consumer(self, tps: Mapping[TopicPartition, str]) -> AsyncIterator[AIOKafkaConsumer]:
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
