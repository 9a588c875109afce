"""What a partition's patients were told of: alert episodes as `risk` and `alerts` left them.

A state that Redis lost is made again from the input topics, but its episodes are not: which waiting updates share a score
differs from run to run, and what pages by it. They are what subscribers were told, so they are read from there. Every risk
record carries its patient's episodes; a technical alarm is raised without a score, so the newest of these counts beside it.
"""

import logging
from collections.abc import Mapping

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streaming.alerting import SILENCE, Episode, PolicyState
from streaming.clock import parse_time
from streaming.errors import Unavailable

log = logging.getLogger(__name__)


class Published:
    """Takes a partition's records of both topics, each in order; gives the episodes."""

    def __init__(self) -> None:
        self._risk: dict[str, bytes] = {}
        self._silence: dict[str, dict] = {}

    def take(self, kind: str, key: bytes, value: bytes) -> None:
        """A record of `risk` or `alerts`."""
        if kind == "risk":
            self._risk[key.decode()] = value
        elif SILENCE.encode() in value:  # few are, and only those matter
            alert = orjson.loads(value)
            if alert["condition"] == SILENCE:
                self._silence[key.decode()] = alert

    def episodes(self) -> dict[str, PolicyState]:
        """By patient."""
        found = {
            patient: PolicyState.from_json(orjson.loads(value).get("episodes", {}))
            for patient, value in self._risk.items()
        }
        for patient, alert in self._silence.items():
            told = found.get(patient, PolicyState()).episodes
            found[patient] = PolicyState({**told, SILENCE: _silence(told.get(SILENCE), alert)})
        return found


def _silence(told: Episode | None, alert: Mapping) -> Episode:
    """The technical alarm's episode from its newest alert and the patient's newest risk record."""
    origin = alert["episode"]["topic"], alert["episode"]["partition"], alert["episode"]["offset"]
    if alert["action"] == "raised":
        return Episode(alert["level"], origin, alert["revision"])
    if told is not None and told.origin != origin:
        return told  # something came again, and was told of by this risk record
    return Episode("none", origin, alert["revision"], None, parse_time(alert["as_of"], "as_of"))


async def read(bootstrap: str, prefix: str, partition: int) -> dict[str, PolicyState]:
    """The episodes of a partition's patients, read from the beginning of both topics.

    Raises:
        Unavailable: Kafka does not answer, or a topic is missing.
    """
    log.info("partition %d is made again: reading what was published of its patients", partition)
    found = Published()
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    kinds = {TopicPartition(f"{prefix}{kind}", partition): kind for kind in ("risk", "alerts")}
    try:
        await consumer.start()
        consumer.assign(list(kinds))
        await consumer.seek_to_beginning(*kinds)
        ends = await consumer.end_offsets(list(kinds))
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                for record in records:
                    found.take(kinds[tp], record.key, record.value)
    except (KafkaError, OSError) as error:
        raise Unavailable(f"Kafka does not answer ({type(error).__name__})") from error
    finally:
        await consumer.stop()
    return found.episodes()
