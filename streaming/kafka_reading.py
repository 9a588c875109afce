"""Reading whole topics with a bare aiokafka consumer, without a group. Shared by replay, verify and the benchmarks."""

from aiokafka import AIOKafkaConsumer, TopicPartition

from streaming.errors import Unavailable


async def partitions_of(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """The topic's partitions, in order.

    Raises:
        Unavailable: there is no such topic.
    """
    found = consumer.partitions_for_topic(topic)
    if not found:
        await consumer._client.force_metadata_update()  # with no subscription aiokafka knows no topics yet
        found = consumer.partitions_for_topic(topic)
    if not found:
        raise Unavailable(f"topic {topic} does not exist: `wardwatch topics create`")
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
