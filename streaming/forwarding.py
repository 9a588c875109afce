"""What a merged patient's worker sends on to the one merged into: the history at the merge, then every later event.

Patients live on different partitions with different owners. So nothing is moved: the owner of A publishes records for
B's partition through its own outbox, like everything else it says, and B's owner reads them like any other event.
- At the merge: `history-joined`, in pieces of a size any topic takes, ids made of where the merge lay. What had been
  merged into A goes along, each under its own path.
- Later: A's every event as it came (id, times, value), rekeyed, with the path and the first place in its headers.
- At the undo, or a newer merge into another: `history-parted`.
No record is sent on to a patient it came from, so a cycle of merges ends there.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from streaming import codec
from streaming.blocks import Block
from streaming.clock import from_ms
from streaming.envelope import Event, Hop, headers_for
from streaming.forwarded import OWN_HEADERS, headers_of
from streaming.history import Absorbed, NoteEntry, PatientState
from streaming.links import Link, epoch_of
from streaming.messages import PatientMerged, PatientUnmerged
from streaming.observations import Observations
from streaming.records import InRecord, OutRecord

PIECE_BYTES = 512 << 10
"""A piece of history is begun anew beyond this."""
PIECE_MEASUREMENTS = 2_000
"""Of no more: who reads it sorts it in at once."""

Path = tuple[Hop, ...]


@dataclass(frozen=True, slots=True)
class Forwarder:
    """Makes the records for one site."""

    site: str
    partition_of: Callable[[bytes], int]

    def sent_on(self, before: PatientState, after: PatientState, event: Event, record: InRecord) -> list[OutRecord]:
        """What `event` (read from `record`), which made `before` into `after`, makes its patient send on."""
        was = before.links.standing if before.links is not None else None
        now = after.links.standing if after.links is not None else None
        if not event.path and isinstance(event.data, PatientMerged | PatientUnmerged):
            return [] if was == now else list(self._turned(was, now, after, event))
        if now is None or now.into in {hop.patient for hop in event.path} | {event.patient}:
            return []
        path = (*event.path, Hop(event.patient, now.epoch))
        kept = [(name, raw) for name, raw in record.headers if name not in _REPLACED]
        told = [("ce_subject", now.into.encode()), ("ce_recordedtime", from_ms(event.recorded_ms).encode())]
        return [self._record(now.into, record.value, [*kept, *told, *headers_of(path, event.position)])]

    def _turned(self, was: Link | None, now: Link | None, state: PatientState, event: Event) -> Iterator[OutRecord]:
        """The merge that stood before and the one that stands now differ."""
        number = 0
        if was is not None and (now is None or now.into != was.into):
            hop = Hop(state.patient, epoch_of(event))
            yield self._history(was.into, (hop,), {"kind": "history-parted"}, event, number)
            number += 1
        if now is not None:
            *earlier, last = _whole(state, now)
            for path, body in [*((path, body | {"more": True}) for path, body in earlier), last]:
                yield self._history(now.into, path, body, event, number)
                number += 1

    def _history(self, into: str, path: Path, body: Mapping[str, Any], event: Event, number: int) -> OutRecord:
        topic, partition, offset = event.position
        named = f"{self.site}|history|{topic}|{partition}|{offset}|{number}"
        headers = headers_for(
            "forwarded",
            id=hashlib.blake2b(named.encode(), digest_size=16).hexdigest(),
            source=f"wardwatch/{self.site}",
            patient=into,
            time_ms=event.time_ms,
            recorded_ms=event.recorded_ms,
            traceparent=event.traceparent,
        )
        return self._record(into, orjson.dumps(body), [*headers, *headers_of(path, event.position)])

    def _record(self, into: str, value: bytes | None, headers: list[tuple[str, bytes]]) -> OutRecord:
        key = into.encode()
        return OutRecord("forwarded", self.partition_of(key), key, value, headers)


_REPLACED = frozenset({"ce_subject", "ce_recordedtime", *OWN_HEADERS})


def _whole(state: PatientState, link: Link) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A patient's own history and every part of it, in pieces, as seen from the one merged into."""
    last = Hop(state.patient, link.epoch)
    absorbed = state.absorbed or Absorbed(state, {})
    for piece in _pieces(absorbed.own):
        yield (last,), {"kind": "history-joined", **piece}
    yield from _parts(absorbed, (last,), link.into)


def _parts(absorbed: Absorbed, path: Path, into: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for name, part in absorbed.parts.items():
        if name == into:
            continue
        through = (Hop(name, part.epoch), *path)
        if part.state is None:
            yield through, {"kind": "history-parted"}
            continue
        inner = part.state.absorbed or Absorbed(part.state, {})
        for piece in _pieces(inner.own):
            yield through, {"kind": "history-joined", **piece}
        yield from _parts(inner, through, into)


def _some_at_once(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """Lists of blocks of `PIECE_MEASUREMENTS` at most, or one block; the last may be empty."""
    some: list[Block] = []
    for block in blocks:
        if some and sum(one.number for one in some) + block.number > PIECE_MEASUREMENTS:
            yield some
            some = []
        some.append(block)
    yield some


def _pieces(own: PatientState) -> Iterator[dict[str, Any]]:
    """A history in pieces: each a history of its own, and all together the whole. Nearly always it is one."""
    bare = replace(own, observations=Observations(), notes={}, scans={})
    *earlier, last = _some_at_once(own.observations.blocks)
    for blocks in earlier:
        yield codec.history(replace(bare, observations=Observations.of(blocks, b"")))
    piece = replace(bare, observations=Observations.of(last, own.observations.static))
    size = len(piece.observations.pack())
    for field, documents in (("notes", own.notes), ("scans", own.scans)):
        for name, entry in documents.items():
            size += len(entry.text if isinstance(entry, NoteEntry) else entry.embedding)
            if size > PIECE_BYTES:
                yield codec.history(piece)
                piece, size = bare, 0
            piece = replace(piece, **{field: {**getattr(piece, field), name: entry}})
    yield codec.history(piece)
