"""Subscribing to alerts: a small client over kafka-python, and how an alert reads on a terminal or as FHIR.

Repeats are byte-identical and dropped by id. Owns no commits: where to begin is the caller's choice.
"""

import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import orjson
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from pydantic import ValidationError

from streaming.alerting import alert_id
from streaming.errors import Unavailable
from streaming.messages import Alert
from streaming.topics import BOOTSTRAP_TIMEOUT_MS

log = logging.getLogger(__name__)

REMEMBERED = 100_000
Start = Literal["beginning", "latest"]


class AlertSubscriber:
    """Iterates over new alerts, each id once, for as long as the process lives or until `idle_s` brings none.

    `unreadable` counts the records that are no alert. They are passed over, each with a line in the log that says where
    it lies.
    """

    unreadable = 0

    def __init__(self, bootstrap: str, prefix: str = "", start: Start = "latest", idle_s: float | None = None) -> None:
        topic = f"{prefix}alerts"
        try:
            self._consumer = KafkaConsumer(
                bootstrap_servers=bootstrap.split(","),
                bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS,
                enable_auto_commit=False,
                auto_offset_reset="earliest",  # where retention deleted what came next: from the first that is left
                consumer_timeout_ms=int(idle_s * 1000) if idle_s else float("inf"),
            )
            partitions = self._consumer.partitions_for_topic(topic) or set()
        except (KafkaError, OSError) as error:
            raise Unavailable(f"Kafka at {bootstrap} does not answer ({type(error).__name__})") from error
        if not partitions:
            raise Unavailable(f"topic {topic} does not exist: `wardwatch topics create`")
        tps = [TopicPartition(topic, partition) for partition in sorted(partitions)]
        self._consumer.assign(tps)
        if start == "beginning":
            self._consumer.seek_to_beginning(*tps)
        else:
            self._consumer.seek_to_end(*tps)
        for tp in tps:
            self._consumer.position(tp)  # now, not at the first poll: no alert from here on is missed
        self._seen: OrderedDict[str, None] = OrderedDict()

    def __iter__(self) -> Iterator[Alert]:
        for record in self._consumer:
            try:
                # A newer worker may say more than is known here; what it says of that is left out.
                alert = Alert.model_validate_json(record.value, extra="ignore")
            except ValidationError:  # its text would quote the record
                self.unreadable += 1
                log.warning("no readable alert at %d/%d, passed over", record.partition, record.offset)
                continue
            if alert.id in self._seen:
                continue
            self._seen[alert.id] = None
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
            yield alert

    def close(self) -> None:
        self._consumer.close()


def line(alert: Mapping[str, Any]) -> str:
    """One readable line of an alert's JSON."""
    probability = "" if alert["probability"] is None else f" {alert['probability']:.2f}"
    if alert["low"] is not None:
        probability += f" [{alert['low']:.2f}, {alert['high']:.2f}]"
    rests = ", ".join(f"{name} {_age(use['age_s'])} old" for name, use in alert["modalities"].items() if use["present"])
    merged = f", {', '.join(alert['merged_from'])} merged into this patient" if alert.get("merged_from") else ""
    missing = f"; missing {', '.join(alert['missing'])}" if alert["missing"] else ""
    news2 = "" if alert["news2"] is None else f"  NEWS2 {alert['news2']}"
    level = "" if alert["level"] == "none" else f" {alert['level'].upper()}"
    return (
        f"{alert['as_of'][:19]}  {alert['action']}{level}  patient {alert['patient']}  {alert['condition']}"
        f"{probability}{news2}  rests on {rests or 'nothing'}{merged}{missing}  {alert['id'][:12]}"
    )


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


_SEVERITY = {"critical": "high", "warning": "moderate", "watch": "low", "none": "low"}


def to_fhir(alert: Alert) -> dict[str, Any]:
    """FHIR R4 DetectedIssue of an alert (hl7.org/fhir/R4/detectedissue.html).

    All of one episode, raised to cleared, share the `identifier`: the alert id of its clearing, known from the beginning.
    The origin alone would not do: the undo of a merge may begin an episode of both patients.
    """
    origin = alert.episode.topic, alert.episode.partition, alert.episode.offset
    episode = alert_id(alert.site, alert.patient, alert.condition, origin, "none")
    evidence = [
        {"detail": [{"display": f"{name}: {use.items} items"}]} for name, use in alert.modalities.items() if use.present
    ]
    resource: dict[str, Any] = {
        "resourceType": "DetectedIssue",
        "id": alert.id,
        "identifier": [{"system": f"urn:wardwatch:{alert.site}:episode", "value": episode}],
        "status": "final" if alert.action != "cleared" else "cancelled",
        "code": {"text": alert.condition},
        "severity": _SEVERITY[alert.level],
        "patient": {"identifier": {"system": f"urn:wardwatch:{alert.site}", "value": alert.patient}},
        "identifiedDateTime": alert.times.decision,
        "detail": alert.reason,
        "author": {"display": f"wardwatch model {alert.model[:12]}"},
    }
    if evidence:
        resource["evidence"] = evidence
    return resource


def to_json(alert: Alert) -> str:
    """One JSON line."""
    return orjson.dumps(alert.model_dump()).decode()
