"""The table of topics, and the admin calls that create and check them. Owns partitions, sizes, retention, compaction.

Every patient-keyed topic has the same number of partitions: partition p of each belongs to the same worker.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from streaming.errors import ConfigError, Unavailable

DAY_MS = 24 * 3_600_000
_LARGE = str(40 << 20)
_SMALL = str(4 << 20)


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic; `config` holds what differs from the broker's defaults."""

    name: str
    config: Mapping[str, str]
    about: str


BOOTSTRAP_TIMEOUT_MS = 5_000
"""A command that finds no Kafka says so within this; kafka-python's own half a minute looks like a hang."""

KNOWN_WITHIN_S = 30.0
"""A broker that has much to load shows new topics late; whoever starts before would miss them."""

TOPICS = (
    Topic("scans", {"max.message.bytes": _LARGE, "retention.ms": str(7 * DAY_MS)}, "DICOM instances, or claim checks"),
    Topic("notes", {"max.message.bytes": _LARGE, "retention.ms": str(30 * DAY_MS)}, "clinical notes"),
    Topic("vitals", {"max.message.bytes": _LARGE, "retention.ms": str(30 * DAY_MS)}, "vital signs and labs"),
    Topic(
        "corrections",
        {"max.message.bytes": _LARGE, "retention.ms": str(30 * DAY_MS)},
        "amendments, retractions, merges",
    ),
    Topic("encoded-scans", {"max.message.bytes": _SMALL, "retention.ms": str(30 * DAY_MS)}, "embeddings of scans"),
    Topic(
        "forwarded",
        {"max.message.bytes": _LARGE, "retention.ms": str(30 * DAY_MS)},
        "events of merged patients, sent on by workers (only they write here)",
    ),
    Topic("risk", {"cleanup.policy": "compact,delete", "retention.ms": str(30 * DAY_MS)}, "every score"),
    Topic("alerts", {"retention.ms": str(365 * DAY_MS)}, "raised, escalated, cleared"),
    Topic("dead-letters", {"max.message.bytes": _LARGE, "retention.ms": str(90 * DAY_MS)}, "refused events"),
)
"""Input topics take messages far over the worker's limits, so that an oversized one is refused with a reason instead
of failing somewhere in a producer. Times are broker times: replayed events of another century are not deleted."""


def create(bootstrap: str, prefix: str, partitions: int, replication: int) -> list[str]:
    """Creates what is missing, waits until the broker shows it; gives the names created.

    Raises:
        Unavailable: Kafka does not answer, or does not show the topics.
    """
    with _admin(bootstrap) as admin:
        held = set(admin.list_topics())
        missing = [topic for topic in TOPICS if prefix + topic.name not in held]
        if missing:
            new = [
                NewTopic(
                    prefix + topic.name,
                    num_partitions=partitions,
                    replication_factor=replication,
                    topic_configs=_config(topic),
                )
                for topic in missing
            ]
            try:
                admin.create_topics(new, timeout_ms=30_000)
            except TopicAlreadyExistsError:
                pass  # another one was quicker; `check` tells whether it made the same
            except KafkaError as error:
                raise ConfigError(f"Kafka refused to create the topics ({type(error).__name__})") from error
            deadline = time.monotonic() + KNOWN_WITHIN_S
            while not {topic.name for topic in new} <= set(admin.list_topics()):
                if time.monotonic() > deadline:
                    raise Unavailable(f"Kafka made the topics, but does not show them after {KNOWN_WITHIN_S:.0f} s")
                time.sleep(0.1)
        return [prefix + topic.name for topic in missing]


def check(bootstrap: str, prefix: str, partitions: int) -> list[str]:
    """What differs from the table, a line each; empty when all is well."""
    wrong = []
    with _admin(bootstrap) as admin:
        held = set(admin.list_topics())
        for topic in TOPICS:
            name = prefix + topic.name
            if name not in held:
                wrong.append(f"{name}: missing")
                continue
            found = len(admin.describe_topics([name])[0]["partitions"])
            if found != partitions:
                wrong.append(f"{name}: {found} partitions, not {partitions}")
            settings = _settings(admin, name)
            for key, value in _config(topic).items():
                if key in settings and set(settings[key].split(",")) != set(value.split(",")):
                    wrong.append(f"{name}: {key} is {settings[key]}, not {value}")
    return wrong


def broker_count(bootstrap: str) -> int:
    """Brokers that the cluster knows.

    Raises:
        Unavailable: Kafka does not answer.
    """
    with _admin(bootstrap) as admin:
        return len(admin.describe_cluster()["brokers"])


def _config(topic: Topic) -> dict[str, str]:
    # Retention counts from when the broker took a message, not from the producer's clock.
    return {"message.timestamp.type": "LogAppendTime", **topic.config}


def _settings(admin: KafkaAdminClient, name: str) -> dict[str, str]:
    answer = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    return _flatten(answer, name)


def _flatten(answer: object, name: str) -> dict[str, str]:
    """kafka-python answers `{type: {name: {key: {"value": ...}}}}`."""
    found: dict[str, str] = {}
    if isinstance(answer, Mapping):
        for by_name in answer.values():
            if isinstance(by_name, Mapping):
                for key, entry in by_name.get(name, {}).items():
                    found[key] = str(entry["value"] if isinstance(entry, Mapping) else entry)
    return found


class _admin:
    """An admin client for one call, its errors translated and its own logging kept quiet."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    def __enter__(self) -> KafkaAdminClient:
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
        try:
            self._client = KafkaAdminClient(
                bootstrap_servers=self._bootstrap.split(","),
                request_timeout_ms=15_000,
                bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS,
            )
        except (KafkaError, OSError, ValueError) as error:
            raise Unavailable(f"Kafka at {self._bootstrap} does not answer ({type(error).__name__})") from error
        return self._client

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._client.close()
        if isinstance(error, KafkaError):
            raise Unavailable(f"Kafka at {self._bootstrap} failed ({type(error).__name__})") from error
