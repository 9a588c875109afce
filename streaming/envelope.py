"""CloudEvents 1.0 in Kafka binary mode: headers and value to an `Event` and back. Owns attributes and refusals.

Source: CloudEvents Kafka Protocol Binding 1.0.2, section 3.2 (binary content mode), and its `dataref` extension.
Leaves what an event does to a patient to `state.py`, pictures to `dicom.py`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from pydantic import ValidationError

from models.signals import ImplausibleValue, UnknownCode, UnknownUnit, to_canonical
from streaming.blocks import CORRECTED_RANK
from streaming.clock import from_ms, parse_time, to_ms, writable
from streaming.errors import InvalidMessage
from streaming.messages import (
    CORRECTION,
    HISTORY,
    Corrected,
    EncodedScan,
    HistoryJoined,
    HistoryParted,
    Note,
    ObservationRetracted,
    PatientMerged,
    Vitals,
)

Headers = Sequence[tuple[str, bytes]]

TYPES = {
    "scans": "wardwatch.scan.v1",
    "notes": "wardwatch.note.v1",
    "vitals": "wardwatch.vitals.v1",
    "corrections": "wardwatch.correction.v1",
    "encoded-scans": "wardwatch.encoded-scan.v1",
    "forwarded": "wardwatch.history.v1",
    "risk": "wardwatch.risk.v1",
    "alerts": "wardwatch.alert.v1",
}
"""ce_type of each topic's events; what is forwarded of another topic keeps that topic's."""

CONTENT_TYPES = {"scans": "application/dicom"}
"""Content type per topic; every other one is JSON."""

LONGEST_ATTRIBUTE = 1_000
"""Bytes. What is told of a patient repeats some of them, on topics that take no large records."""
_OF_ANY_LENGTH = ("ce_mergedfrom",)
"""A list, of bounded number and length (`forwarded.py`)."""

STATUS_RANK = {"preliminary": 0, "final": 1, "corrected": CORRECTED_RANK}


@dataclass(frozen=True, slots=True)
class Measured:
    """One observation in canonical units. `signal` is its index in `models.signals.SIGNALS`."""

    signal: int
    value: float
    time_ms: int


@dataclass(frozen=True, slots=True)
class Measurements:
    """What a vitals event says; `rank` grows with its status."""

    rank: int
    items: tuple[Measured, ...]


@dataclass(frozen=True, slots=True)
class ScanBytes:
    """A scan's value: bytes inline, or a claim check."""

    inline: bytes | None
    dataref: str | None
    sha256: str | None


Data = Measurements | Note | Corrected | EncodedScan | ScanBytes | HistoryJoined | HistoryParted


@dataclass(frozen=True, slots=True)
class Hop:
    """A patient whose events were sent on to another, by the merge (or its undo) `epoch`: recorded ms, hash of its id."""

    patient: str
    epoch: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Event:
    """One event, parsed and checked. Times are milliseconds since the epoch."""

    kind: str  # the unprefixed topic
    id: str
    source: str
    patient: str
    time_ms: int
    recorded_ms: int
    encounter: str | None
    traceparent: str | None
    data: Data
    partition: int = -1
    offset: int = -1
    broker_ms: int = 0
    path: tuple[Hop, ...] = ()  # forwarded: whose event it first was, and through whom it came
    origin: tuple[str, int, int] | None = None  # forwarded: topic, partition and offset where it first lay

    @property
    def position(self) -> tuple[str, int, int]:
        """Topic, partition and offset where it first lay: a repeated forwarding does not change it."""
        return self.origin or (self.kind, self.partition, self.offset)

    @property
    def version(self) -> int:
        """32 bits of the id's hash: the last tie-break between two writers, the same in every run."""
        return id_hash(self.id)


@lru_cache(maxsize=65_536)
def id_hash(event_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(event_id.encode(), digest_size=4).digest(), "little")


def headers_for(
    kind: str,
    *,
    id: str,
    source: str,
    patient: str,
    time_ms: int,
    recorded_ms: int | None = None,
    encounter: str | None = None,
    traceparent: str | None = None,
    dataref: str | None = None,
    sha256: str | None = None,
) -> list[tuple[str, bytes]]:
    """The Kafka headers of one event on topic `kind`."""
    attributes = {
        "ce_specversion": "1.0",
        "ce_id": id,
        "ce_type": TYPES[kind],
        "ce_source": source,
        "ce_subject": patient,
        "ce_time": from_ms(time_ms),
        "ce_recordedtime": None if recorded_ms is None else from_ms(recorded_ms),
        "ce_encounter": encounter,
        "ce_dataref": dataref,
        "ce_datasha256": sha256,
        "traceparent": traceparent,
        "content-type": CONTENT_TYPES.get(kind, "application/json"),
    }
    return [(name, text.encode()) for name, text in attributes.items() if text is not None]


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused at the door. Bytes, and milliseconds ahead of the event's record or the broker's time."""

    json_bytes: int = 1 << 20
    inline_bytes: int = 8 << 20
    future_ms: int = 300_000
    live: bool = False
    """In service, not in a replay: the broker's time is when the event came. It stands for a recorded time that is not said,
    and nothing may lie ahead of it; the same whenever the event is read."""


def parse(
    kind: str,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    *,
    partition: int = -1,
    offset: int = -1,
    broker_ms: int = 0,
    limits: Limits = Limits(),
) -> Event:
    """A Kafka record of topic `kind` as an `Event`.

    Raises:
        InvalidMessage: with one of `errors.REASONS`; the text never quotes the event.
    """
    attributes = _attributes(headers)
    patient = _patient(key, attributes)
    event_id = _required(attributes, "ce_id")
    source = _required(attributes, "ce_source")
    if _required(attributes, "ce_specversion") != "1.0":
        raise InvalidMessage("bad-attribute", "ce_specversion is not 1.0")
    if _required(attributes, "ce_type") != TYPES[kind]:
        raise InvalidMessage("wrong-type", f"ce_type is not {TYPES[kind]}")
    time_ms = parse_time(_required(attributes, "ce_time"), "ce_time")
    recorded = attributes.get("ce_recordedtime")
    if recorded:
        recorded_ms = parse_time(recorded, "ce_recordedtime")
    else:
        recorded_ms = writable(broker_ms, "the broker's time") if limits.live else time_ms
    data = _data(kind, value, attributes, limits)
    if isinstance(data, PatientMerged):
        _refuse_bad_merge(patient, data)
    _refuse_future(time_ms, recorded_ms, broker_ms, data, limits)
    return Event(
        kind=kind,
        id=event_id,
        source=source,
        patient=patient,
        time_ms=time_ms,
        recorded_ms=recorded_ms,
        encounter=attributes.get("ce_encounter"),
        traceparent=attributes.get("traceparent"),
        data=data,
        partition=partition,
        offset=offset,
        broker_ms=broker_ms,
    )


def _attributes(headers: Headers) -> Mapping[str, str]:
    try:
        for name, raw in headers:
            if len(raw) > LONGEST_ATTRIBUTE and name.startswith(("ce_", "traceparent")) and name not in _OF_ANY_LENGTH:
                raise InvalidMessage("bad-attribute", f"an attribute is longer than {LONGEST_ATTRIBUTE} bytes")
        return {name: raw.decode() for name, raw in headers}
    except (UnicodeDecodeError, AttributeError, TypeError):
        raise InvalidMessage("bad-attribute", "a header is not UTF-8 text") from None


def _required(attributes: Mapping[str, str], name: str) -> str:
    text = attributes.get(name)
    if not text:
        raise InvalidMessage("missing-attribute", f"{name} is absent or empty")
    return text


def _patient(key: bytes | None, attributes: Mapping[str, str]) -> str:
    subject = attributes.get("ce_subject")
    if not key or not subject:
        raise InvalidMessage("missing-patient", "the Kafka key and ce_subject must both name the patient")
    if key != subject.encode():
        raise InvalidMessage("key-mismatch", "the Kafka key is not ce_subject")
    if len(subject) > 200 or not subject.isprintable():
        raise InvalidMessage("bad-attribute", "ce_subject is longer than 200 characters or not printable")
    return subject


def _data(kind: str, value: bytes | None, attributes: Mapping[str, str], limits: Limits) -> Data:
    if kind == "scans":
        return _scan(value, attributes, limits)
    if not value:
        raise InvalidMessage("broken-json", "the value is empty")
    if len(value) > limits.json_bytes:
        raise InvalidMessage("too-large", f"{len(value)} bytes; the limit here is {limits.json_bytes}")
    try:
        match kind:
            case "vitals":
                return _measurements(Vitals.model_validate_json(value))
            case "notes":
                return Note.model_validate_json(value)
            case "corrections":
                return _correction(CORRECTION.validate_json(value))
            case "encoded-scans":
                return EncodedScan.model_validate_json(value)
            case "forwarded":
                return HISTORY.validate_json(value)
            case _:
                raise InvalidMessage("wrong-type", "not an input topic")
    except ValidationError as error:
        raise _schema_error(error) from None


def _schema_error(error: ValidationError) -> InvalidMessage:
    first: Any = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] in {"json_invalid", "finite_number"}:
        return InvalidMessage("broken-json", "the value is not JSON (NaN and Infinity are not JSON)")
    # A location may name a key that the sender made up, or a note's or scan's id: only positions and known field names
    # are repeated.
    known = [str(part) for above, part in pairwise(("", *first["loc"])) if above not in {"notes", "scans"}]
    where = "" if first["type"] == "extra_forbidden" else ".".join(known)
    return InvalidMessage("bad-schema", f"{first['type']} at {where or 'an unknown key'}")


def _scan(value: bytes | None, attributes: Mapping[str, str], limits: Limits) -> ScanBytes:
    dataref, sha256 = attributes.get("ce_dataref"), attributes.get("ce_datasha256")
    if dataref:
        if not sha256 or len(sha256) != 64:
            raise InvalidMessage("missing-attribute", "ce_dataref needs ce_datasha256")
        return ScanBytes(None, dataref, sha256)
    if not value:
        raise InvalidMessage("bad-dicom", "the value is empty and there is no ce_dataref")
    if len(value) > limits.inline_bytes:
        raise InvalidMessage("too-large", f"{len(value)} bytes; over {limits.inline_bytes} use ce_dataref")
    return ScanBytes(value, None, sha256)


def _measurements(vitals: Vitals) -> Measurements:
    items = []
    for place, one in enumerate(vitals.observations):
        signal, number = _canonical(one.code, one.value, one.unit, place)
        items.append(Measured(signal, number, to_ms(one.time)))
    return Measurements(STATUS_RANK[vitals.status], tuple(items))


def _canonical(code: str, value: float, unit: str, place: int) -> tuple[int, float]:
    try:
        return to_canonical(code, value, unit)
    except UnknownCode:
        raise InvalidMessage("unknown-code", f"observation {place}: LOINC code not in the signal table") from None
    except UnknownUnit:
        raise InvalidMessage("unknown-unit", f"observation {place}: unit not convertible for its code") from None
    except ImplausibleValue:
        raise InvalidMessage("implausible-value", f"observation {place}: outside the plausible range") from None


def _correction(correction: Corrected) -> Corrected:
    from models.signals import SIGNALS, by_loinc

    if isinstance(correction, ObservationRetracted):
        index = by_loinc.get(correction.code)
        if index is None:
            raise InvalidMessage("unknown-code", "LOINC code not in the signal table")
        if SIGNALS[index].kind == "static":
            raise InvalidMessage("bad-correction", "a static fact is corrected by sending it anew, not retracted")
    return correction


def _refuse_bad_merge(patient: str, merged: PatientMerged) -> None:
    if merged.into == patient:
        raise InvalidMessage("bad-correction", "a patient cannot be merged into itself")
    if not merged.into.isprintable():
        raise InvalidMessage("bad-correction", "the patient merged into is not printable")


def _refuse_future(time_ms: int, recorded_ms: int, broker_ms: int, data: Data, limits: Limits) -> None:
    newest = time_ms
    if isinstance(data, Measurements):
        newest = max(newest, *(item.time_ms for item in data.items))
    elif isinstance(data, ObservationRetracted):
        newest = max(newest, to_ms(data.time))
    bound = recorded_ms
    if limits.live:
        if recorded_ms > broker_ms + limits.future_ms:
            raise InvalidMessage("future-time", "the recorded time lies ahead of the broker's")
        bound = max(recorded_ms, broker_ms)
    if newest > bound + limits.future_ms:
        raise InvalidMessage("future-time", "an event time lies ahead of its record and the broker's time")
