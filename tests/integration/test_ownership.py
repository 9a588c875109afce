"""What a worker owns: nothing, for a while; after long outages; of topics that are not what they were. On a real broker."""

import subprocess
import sys
import uuid

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.structs import OffsetAndMetadata

from streaming import topics
from streaming.bootstrap import partitioner
from tests.integration.conftest import Site, eventually

pytestmark = pytest.mark.integration

BARE = """
import asyncio, os, sys, time
from streaming import agent
from streaming.errors import Unavailable
from streaming.settings import Settings

agent.STUCK_S = 4.0

class Work:
    ahead = {}
    back = 0.0
    async def take_over(self, committed):
        if time.monotonic() < self.back:
            raise Unavailable("it")
        print("owns", sorted(committed), flush=True)
        return {partition: dict.fromkeys(topics, 0) for partition, topics in committed.items()}

    async def process(self, batches):
        await asyncio.sleep(3600)

class Observer:
    def waiting(self, batches): pass
    def paused(self, what): print("paused by", what, flush=True)

async def main():
    worker = agent.Worker("fusion", ("vitals",), Work(), Observer(), Settings())
    asyncio.get_running_loop().create_task(story(worker))
    await worker.run()
"""


class Bare:
    """A process that runs a `Worker` without work; `told` are its lines so far."""

    def __init__(self, site, story):
        self._file = site.folder / f"{uuid.uuid4().hex}.out"
        with self._file.open("wb") as sink:
            script = f"{BARE}\n{story}\nasyncio.run(main())\n"
            self.process = subprocess.Popen(
                [sys.executable, "-c", script], env=site.env, stdout=sink, stderr=subprocess.STDOUT
            )

    def told(self):
        return self._file.read_text().splitlines()

    def says(self, line):
        eventually(lambda: line in self.told(), f"it says {line!r}")


@pytest.fixture
def bare(site):
    """Starts them, and ends those that still run."""
    started = []

    def start(story, where=site):
        started.append(Bare(where, story))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def test_a_worker_with_no_partition_left_goes_on_and_takes_over_when_there_is_one(stack, bare, tmp_path):
    small = Site.__new__(Site)
    small.prefix, small.folder = f"one-{uuid.uuid4().hex}.", tmp_path
    topics.create(stack.bootstrap, small.prefix, 1, 1)
    small.env = {
        "WARDWATCH_KAFKA_BOOTSTRAP": stack.bootstrap,
        "WARDWATCH_TOPIC_PREFIX": small.prefix,
        "WARDWATCH_PARTITIONS": "1",
        "PATH": "",
    }
    story = "async def story(worker):\n    pass"
    both = [bare(story, small) for _ in range(2)]
    eventually(lambda: sum("owns [0]" in one.told() for one in both) and all(one.told() for one in both), "both joined")
    eventually(lambda: sorted(one.told()[-1] for one in both) == ["owns [0]", "owns []"], "one of them owns it")
    with pytest.raises(subprocess.TimeoutExpired):
        next(one for one in both if one.told()[-1] == "owns []").process.wait(timeout=8)  # twice what makes one stuck
    owner = next(one for one in both if one.told()[-1] == "owns [0]")
    owner.process.kill()
    next(one for one in both if one is not owner).says("owns [0]")


def test_a_take_over_lasts_as_long_as_what_it_needs_is_away(bare):
    """Longer than Faust waits for a request: it must neither give up in silence nor stay paused for ever."""
    one = bare("""
async def story(worker):
    Work.back = time.monotonic() + 8.0
    while worker.app.fetches is None:
        await asyncio.sleep(0)
    worker.app.conf.broker_request_timeout = 2.0  # the consumer is made, and has no partitions yet
    while not worker.assigned:
        await asyncio.sleep(0.1)
    print("paused" if worker.engine.paused else "goes on", flush=True)
""")
    one.says("goes on")
    assert one.told()[-4:] == ["owns [0, 1, 2, 3, 4, 5, 6, 7]", "going on", "paused by None", "goes on"]


def _committed(site, group):
    consumer = KafkaConsumer(bootstrap_servers=site.stack.bootstrap, group_id=group, enable_auto_commit=False)
    try:
        return consumer.committed(TopicPartition(f"{site.prefix}vitals", 0))
    finally:
        consumer.close()


def test_what_the_group_has_committed_never_goes_back(site, bare):
    """A state is made again from offset 0; cut short, the next owner must still know what was published."""
    group, place = f"{site.prefix}wardwatch-fusion", TopicPartition(f"{site.prefix}vitals", 0)
    for _ in range(8):
        site._producer.send(place.topic, b"{}", partition=0).get(timeout=30)
    consumer = KafkaConsumer(bootstrap_servers=site.stack.bootstrap, group_id=group, enable_auto_commit=False)
    consumer.assign([place])
    consumer.commit({place: OffsetAndMetadata(5, "", -1)})
    consumer.close()
    one = bare("""
async def story(worker):
    from faust.types import TP
    while not worker.assigned:
        await asyncio.sleep(0.1)
    tp = TP(worker._settings.topic_prefix + "vitals", 0)
    while not worker.engine.waiting:
        await asyncio.sleep(0.1)
    worker._ledger.clear([tp])  # as if the eight had come in parts
    for following in (2, 7):
        worker._ledger.delivered(tp, following)
        worker._ledger.finished(tp, following)
        await asyncio.sleep(3.0)
        print("finished below", following, flush=True)
    await asyncio.sleep(30)
""")
    one.says("finished below 2")
    assert _committed(site, group) == 5
    one.says("finished below 7")
    assert _committed(site, group) == 7


def test_a_topic_made_anew_ends_the_worker_with_a_line_that_says_so(site):
    """What comes would lie below what was read before, and be passed over."""
    for number in range(3):
        site.send("vitals", {"observations": []}, at_ms=number)
    worker = site.start("fusion")
    eventually(lambda: len(site.read("dead-letters")) == 3, "they are read")
    site.workers.remove(worker)
    worker.terminate()
    assert worker.wait(timeout=30) == 0
    admin = KafkaAdminClient(bootstrap_servers=site.stack.bootstrap)
    admin.delete_topics([f"{site.prefix}vitals"])
    eventually(lambda: f"{site.prefix}vitals" not in admin.list_topics(), "it is gone")
    admin.close()
    topics.create(site.stack.bootstrap, site.prefix, 8, 1)
    done = site.command("worker", "--role", "fusion")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "was read up to offset 3, but Kafka holds it up to 0 only" in last and "Traceback" not in done.stderr


def test_what_was_stored_and_never_committed_is_committed_by_the_next_worker(site):
    """Without a commit it would look, were Redis lost, as if it had never been read."""
    worker = site.start("fusion", WARDWATCH_COMMIT_INTERVAL_S="600")
    site.send("vitals", {"observations": []}, at_ms=0)
    eventually(lambda: len(site.read("dead-letters")) == 1, "it is read")
    site.workers.remove(worker)
    worker.kill()
    worker.wait()
    site.start("fusion")
    asked = KafkaConsumer(
        bootstrap_servers=site.stack.bootstrap, group_id=f"{site.prefix}wardwatch-fusion", enable_auto_commit=False
    )
    place = TopicPartition(f"{site.prefix}vitals", partitioner(8)(b"p1"))
    eventually(lambda: asked.committed(place) == 1, "it is committed")
    asked.close()
