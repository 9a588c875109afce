"""A worker as a real process, a producer and a reader, on the real stack."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
import redis
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from streaming import codec, topics
from streaming.envelope import headers_for
from streaming.local_stack import Stack

DEADLINE_S = 60.0


def eventually(check: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> object:
    """Waits until `check` gives something true."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        time.sleep(0.05)
    pytest.fail(f"{what}: not within {deadline_s:.0f} s")


class Site:
    """One topic prefix on the stack, with workers of its own."""

    def __init__(self, stack: Stack, prefix: str, folder: Path) -> None:
        self.stack, self.prefix, self.folder = stack, prefix, folder
        self.env = os.environ | {
            "WARDWATCH_KAFKA_BOOTSTRAP": stack.bootstrap,
            "WARDWATCH_REDIS_URL": stack.redis_url,
            "WARDWATCH_TOPIC_PREFIX": prefix,
            "WARDWATCH_CLOCK": "events",
            "WARDWATCH_DATA_DIR": str(folder),
            "WARDWATCH_LOG_FORMAT": "json",
        }
        topics.create(stack.bootstrap, prefix, 8, 1)
        self.workers: list[subprocess.Popen[bytes]] = []
        self.log = folder / "worker.log"
        self._producer = KafkaProducer(bootstrap_servers=stack.bootstrap, max_request_size=40 << 20)

    def start(self, role: str, **env: str) -> subprocess.Popen[bytes]:
        """A worker that has its partitions."""
        before = self.log.read_bytes().count(b"assigned") if self.log.exists() else 0
        with self.log.open("ab") as sink:
            worker = subprocess.Popen(
                [sys.executable, "-m", "streaming", "worker", "--role", role], env=self.env | env, stderr=sink
            )
        self.workers.append(worker)

        def assigned() -> bool:
            assert worker.poll() is None, self.log.read_text()[-2000:]
            return self.log.read_bytes().count(b"assigned") > before

        eventually(assigned, f"{role} worker has partitions")
        return worker

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        worker.kill()
        worker.wait()
        self.workers.remove(worker)

    def close(self) -> None:
        self._producer.close()
        for worker in self.workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            assert worker.wait(timeout=30) == 0, self.log.read_text()[-2000:]

    def command(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a wardwatch command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "streaming", *arguments],
            env=self.env | env, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip

    def send(self, kind: str, body: object, patient: str = "p1", at_ms: int = 0, **attributes: str) -> tuple[int, int]:
        """One event; gives (partition, offset). `value`, `key` and attributes may be given raw."""
        value = body if isinstance(body, bytes) else orjson.dumps(body)
        headers = headers_for(
            kind, id=attributes.pop("id", f"{kind}-{at_ms}"), source="t", patient=patient, time_ms=at_ms
        )
        done = self._producer.send(self.prefix + kind, value, patient.encode(), headers=headers).get(timeout=30)
        return done.partition, done.offset

    def raw(self, kind: str, key: bytes | None, value: bytes, headers: list[tuple[str, bytes]]) -> tuple[int, int]:
        done = self._producer.send(self.prefix + kind, value, key, headers=headers).get(timeout=60)
        return done.partition, done.offset

    def read(self, kind: str) -> list:
        """Every record of a topic so far."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.stack.bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=64 << 20
        )
        tps = [TopicPartition(self.prefix + kind, partition) for partition in range(8)]
        consumer.assign(tps)
        consumer.seek_to_beginning(*tps)
        ends = consumer.end_offsets(tps)
        found = []
        while any(consumer.position(tp) < ends[tp] for tp in tps):
            for records in consumer.poll(timeout_ms=500).values():
                found += records
        consumer.close()
        return found

    def states(self) -> dict[str, tuple]:
        """Every patient's stored measurements and alert episodes."""
        link = redis.Redis.from_url(self.stack.redis_url)
        found = {}
        for key in link.scan_iter(match=f"{{ww:{self.prefix}:*patient:*", count=1000):
            fields = link.hgetall(key)
            patient = orjson.loads(fields[b"summary"])["patient"]
            state = codec.decode(patient, fields)
            found[patient] = (state.observations.pack(), state.policy.to_json(), state.newest_event_ms)
        return found


@pytest.fixture
def site(stack: Stack, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """Fresh topics for one test."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)[:60]
    found = Site(stack, f"{name}.", tmp_path)
    yield found
    found.close()
