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
