"""Reading whole topics with a bare aiokafka consumer, without a group. Shared by replay, verify and the benchmarks."""

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from streaming.errors import Unavailable

PATIENCE_S = 10.0
"""A topic that was just made is not known to every broker at once."""
LOOK_EVERY_S = 0.1


async def partitions_of(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """The topic's partitions, in order.

    Raises:
        Unavailable: there is no such topic.
    """
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not (found := consumer.partitions_for_topic(topic)):
                await consumer._client.force_metadata_update()  # with no subscription aiokafka knows no topics yet
                if not consumer.partitions_for_topic(topic):
                    await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError:
        raise Unavailable(f"topic {topic} does not exist: `wardwatch topics create`") from None
    return [TopicPartition(topic, partition) for partition in sorted(found)]


async def read_from_now(consumer: AIOKafkaConsumer, *topics: str) -> None:
    """Assigns the topics' partitions; what is produced after this returns will be read, and nothing before.

    Raises:
        Unavailable: there is no such topic.
    """
    tps = [tp for topic in topics for tp in await partitions_of(consumer, topic)]
    consumer.assign(tps)
    await consumer.seek_to_end(*tps)
    for tp in tps:
        await consumer.position(tp)  # the seek is only done when it is asked for
