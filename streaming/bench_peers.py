"""The bare comparators of `wardwatch bench latency`: each takes an event from one topic and sends it to another.

Run as `python -m streaming.bench_peers PEER BOOTSTRAP SOURCE SINK`; they do nothing else, and guarantee less.
"""

import asyncio
import logging
import subprocess
import sys
import tempfile


def start(peer: str, bootstrap: str, source: str, sink: str) -> subprocess.Popen[bytes]:
    """A comparator as a process of its own. The warnings of its packages are not this benchmark's."""
    module = ["-W", "ignore", "-m", "streaming.bench_peers"]
    return subprocess.Popen([sys.executable, *module, peer, bootstrap, source, sink])


def run_faust(bootstrap: str, source: str, sink: str) -> None:
    """A stock Faust agent as its documentation shows it. `source` may name several topics, comma-separated."""
    import faust

    app = faust.App(
        f"peer-faust-{source.replace(',', '-')}",
        broker=[f"kafka://{server}" for server in bootstrap.split(",")],
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        datadir=tempfile.mkdtemp(),
        value_serializer="raw",
        key_serializer="raw",
    )
    sink_topic = app.topic(sink, value_serializer="raw", key_serializer="raw")

    @app.agent(app.topic(*source.split(","), value_serializer="raw", key_serializer="raw"), sink=None)
    async def forward(stream):  # type: ignore[no-untyped-def]
        async for event in stream.events():
            await sink_topic.send(key=event.key, value=event.value)

    async def main() -> None:
        await app.start()
        await app.wait_until_stopped()

    asyncio.run(main())


def run_aiokafka(bootstrap: str, source: str, sink: str) -> None:
    """A bare loop: getmany, send, await the broker's word for the batch, commit each second."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    async def main() -> None:
        consumer = AIOKafkaConsumer(
            source, bootstrap_servers=bootstrap, group_id=f"peer-aiokafka-{source}", auto_offset_reset="earliest"
        )
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
        await consumer.start()
        await producer.start()
        while True:
            fetched = await consumer.getmany(timeout_ms=1000)
            waiting = [
                await producer.send(sink, record.value, record.key)
                for records in fetched.values()
                for record in records
            ]
            if waiting:
                await asyncio.gather(*waiting)

    asyncio.run(main())


def run_quixstreams(bootstrap: str, source: str, sink: str) -> None:
    """A Quix Streams pipeline that does nothing, as its documentation shows it."""
    from quixstreams import Application

    app = Application(
        broker_address=bootstrap,
        consumer_group=f"peer-quixstreams-{source}",
        auto_offset_reset="earliest",
        auto_create_topics=False,
        state_dir=tempfile.mkdtemp(),
        loglevel=None,
    )
    raw = {"key_serializer": "bytes", "value_serializer": "bytes"}
    incoming = app.topic(source, key_deserializer="bytes", value_deserializer="bytes")
    app.dataframe(incoming).to_topic(app.topic(sink, **raw))
    app.run()


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    {"faust": run_faust, "aiokafka": run_aiokafka, "quixstreams": run_quixstreams}[sys.argv[1]](*sys.argv[2:5])
