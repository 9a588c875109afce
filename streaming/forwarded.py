"""Records on `forwarded`: events of a merged patient, sent on by the worker that owns the patient to the one who goes on.

Owns the two headers that say whose event it first was and where it lay, and the reading of such a record. Leaves what
is sent to `forwarding.py`, what it does to a state to `state.py`.
"""

from collections.abc import Sequence
from dataclasses import replace

import orjson

from streaming import codec
from streaming.envelope import TYPES, Event, Headers, Hop, Limits, parse
from streaming.errors import InvalidMessage
from streaming.messages import WHOLE, HistoryJoined, PatientMerged, PatientUnmerged

MAX_HOPS = 8
"""Of A into B into C and so on, so many forwardings of one event; a longer chain is refused with a reason."""
HISTORY_BYTES = 2 << 20
"""A piece of history is smaller than this; the JSON limit is meant for what comes from outside."""

KINDS = {TYPES[kind]: kind for kind in ("vitals", "notes", "corrections", "encoded-scans", "forwarded")}
"""ce_type to the topic whose rules its value follows."""

OWN_HEADERS = ("ce_mergedfrom", "ce_mergeorigin")


def headers_of(path: Sequence[Hop], origin: tuple[str, int, int]) -> list[tuple[str, bytes]]:
    """The headers that only forwarded records have."""
    topic, partition, offset = origin
    return [
        ("ce_mergedfrom", orjson.dumps([[hop.patient, *hop.epoch] for hop in path])),
        ("ce_mergeorigin", f"{topic}/{partition}/{offset}".encode()),
    ]


def parse_forwarded(
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    *,
    partition: int,
    offset: int,
    broker_ms: int,
    limits: Limits,
) -> Event:
    """A record of `forwarded` as an event of the patient it was sent on to.

    Raises:
        InvalidMessage: with one of `errors.REASONS`; the text never quotes the event.
    """
    attributes = dict(headers)
    kind = KINDS.get(_text(attributes, "ce_type"))
    if kind is None:
        raise InvalidMessage("wrong-type", "ce_type is not one that is forwarded")
    path, origin = _path(_text(attributes, "ce_mergedfrom")), _origin(_text(attributes, "ce_mergeorigin"))
    if kind == "forwarded":
        limits = replace(limits, json_bytes=max(limits.json_bytes, HISTORY_BYTES))
    event = parse(kind, key, value, headers, partition=partition, offset=offset, broker_ms=broker_ms, limits=limits)
    if isinstance(event.data, PatientMerged | PatientUnmerged):
        raise InvalidMessage("bad-correction", "a merge is not forwarded")
    if isinstance(event.data, HistoryJoined):
        try:
            codec.from_history(path[0].patient, event.data.model_dump())
        except ValueError:
            raise InvalidMessage("bad-schema", "the joined history cannot be read") from None
    return replace(event, kind="forwarded", path=path, origin=origin)


def _text(attributes: dict[str, bytes], name: str) -> str:
    try:
        return attributes[name].decode()
    except KeyError:
        raise InvalidMessage("missing-attribute", f"{name} is absent") from None
    except (UnicodeDecodeError, AttributeError):
        raise InvalidMessage("bad-attribute", f"{name} is not UTF-8 text") from None


def _path(text: str) -> tuple[Hop, ...]:
    try:
        hops = tuple(Hop(str(name), (int(recorded), int(version))) for name, recorded, version in orjson.loads(text))
    except (ValueError, TypeError):
        raise InvalidMessage(
            "bad-attribute", "ce_mergedfrom is not a list of patient, recorded time and hash"
        ) from None
    if not hops or not all(0 < len(hop.patient) <= 200 for hop in hops):
        raise InvalidMessage("bad-attribute", "ce_mergedfrom is empty, or a patient of it is")
    if not all(number in WHOLE for hop in hops for number in hop.epoch):
        raise InvalidMessage("bad-attribute", "ce_mergedfrom has a number of more than 64 bits")
    if len(hops) > MAX_HOPS:
        raise InvalidMessage("merge-depth", f"merged on more than {MAX_HOPS} times")
    return hops


def _origin(text: str) -> tuple[str, int, int]:
    topic, _, place = text.partition("/")
    partition, _, offset = place.partition("/")
    try:
        return topic, int(partition), int(offset)
    except ValueError:
        raise InvalidMessage("bad-attribute", "ce_mergeorigin is not topic/partition/offset") from None
