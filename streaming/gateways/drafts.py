"""What a message of either door becomes: records for Kafka, checked by the very parser that the workers use."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import orjson

from streaming.envelope import Limits, headers_for, parse
from streaming.errors import InvalidMessage
from streaming.gateways.acknowledgments import Problem
from streaming.records import OutRecord


@dataclass(frozen=True, slots=True)
class Rules:
    """What a site configures: its own identifier authority, its time zone, the limits of the wire."""

    own_issuer: str = ""
    zone: ZoneInfo | None = None
    limits: Limits = field(default_factory=Limits)
    processing_id: str = "P"


@dataclass(slots=True)
class Translation:
    """Records to publish, in order; what was refused; what is nothing to us, counted by why."""

    records: list[OutRecord] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    refusals: list[InvalidMessage] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    patient: str | None = None


def event(
    kind: str,
    body: Mapping[str, object],
    *,
    id: str,
    source: str,
    patient: str,
    time_ms: int,
    recorded_ms: int,
    received_ms: int,
    encounter: str | None,
    limits: Limits,
) -> OutRecord:
    """One JSON event as a record.

    Raises:
        InvalidMessage: a worker would refuse it.
    """
    value = orjson.dumps(body)
    headers = headers_for(
        kind, id=id, source=source, patient=patient, time_ms=time_ms, recorded_ms=recorded_ms, encounter=encounter
    )
    record = OutRecord(kind, None, patient.encode(), value, headers)
    check(record, received_ms, limits)
    return record


def check(record: OutRecord, received_ms: int, limits: Limits) -> None:
    """Refuses at the door what a worker would refuse.

    Raises:
        InvalidMessage: as `envelope.parse` does.
    """
    parse(record.kind, record.key, record.value, record.headers, broker_ms=received_ms, limits=limits)
