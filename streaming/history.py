"""What is known of one patient, and what one of the patient's own events adds to it. Pure: no clock, no I/O.

Owns the parts of a state and how two writers of one thing are decided: order-free and idempotent throughout.
Leaves other patients' events, that is merges, and the reducer that everyone calls to `state.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from models.signals import by_loinc
from streaming.alerting import PolicyState
from streaming.blocks import RETRACTED_RANK, Write
from streaming.clock import EARLIEST_MS, HOUR_MS
from streaming.envelope import Event, Measurements, to_ms
from streaming.links import Epoch, Links
from streaming.messages import (
    EncodedScan,
    Note,
    NoteAmended,
    NoteRetracted,
    ObservationRetracted,
    PatientMerged,
    PatientUnmerged,
)
from streaming.observations import Observations

DOCUMENT_RETENTION_MS = 7 * 24 * HOUR_MS
"""Notes and scans older than this, seen from the patient's newest event, have left history."""
MAX_NOTES_KEPT = 16
MAX_SCANS_KEPT = 128
TEXT_KEPT = 6_000
"""Characters of a note that are kept: more than the note encoder reads."""

NEVER_MS = EARLIEST_MS
"""0001-01-01, the earliest time the wire can say: before anything was known of a patient."""

ORIGINAL, AMENDED, RETRACTED = 0, 1, 2

Version = tuple[int, int, int]  # (rank, recorded ms, hash of the event id)


@dataclass(frozen=True, slots=True)
class NoteEntry:
    """A note as it stands: the original, its newest amendment, or a retraction that keeps it out."""

    time_ms: int
    version: Version
    text: str

    @property
    def stands(self) -> bool:
        return self.version[0] != RETRACTED


@dataclass(frozen=True, slots=True)
class ScanEntry:
    """One embedded DICOM instance. `embedding` is base64 of float32 as it came over the wire."""

    series_uid: str
    time_ms: int
    version: Version
    modality: str
    content_sha256: str
    encoder: str
    embedding: str


@dataclass(frozen=True, slots=True)
class Embedding:
    """A cached embedding: valid for this encoder and this content only."""

    encoder: str
    content: str
    vector: bytes  # little-endian float32


@dataclass(frozen=True, slots=True)
class Part:
    """A patient merged into this one, as of the merge or undo `epoch`; `state` is None once undone."""

    epoch: Epoch
    state: "PatientState | None"


@dataclass(frozen=True, slots=True)
class Absorbed:
    """What a state is the union of, once anyone was merged into it: the patient's own events, and each one's apart."""

    own: "PatientState"
    parts: Mapping[str, Part]

    @property
    def histories(self) -> list["PatientState"]:
        return [self.own, *(part.state for part in self.parts.values() if part.state is not None)]


@dataclass(frozen=True, slots=True)
class PatientState:
    """Everything known of one patient. Immutable; replaced on every event.

    With `absorbed`, the history here (encounter to scans) is the union of what that holds.
    """

    patient: str
    encounter: str | None = None
    encounter_version: Version = (-1, 0, 0)
    newest_event_ms: int = NEVER_MS
    newest_recorded_ms: int = NEVER_MS
    observations: Observations = field(default_factory=Observations)
    notes: Mapping[str, NoteEntry] = field(default_factory=dict)
    scans: Mapping[str, ScanEntry] = field(default_factory=dict)
    offsets: Mapping[str, int] = field(default_factory=dict)
    policy: PolicyState = field(default_factory=PolicyState)
    embeddings: Mapping[str, Embedding] = field(default_factory=dict)
    links: Links | None = None
    absorbed: Absorbed | None = None

    def history(self) -> dict[str, Any]:
        """What the events amount to: equal in every run. Without offsets, alert episodes and caches."""
        return {
            "encounter": self.encounter,
            "newest_event_ms": self.newest_event_ms,
            "newest_recorded_ms": self.newest_recorded_ms,
            "observations": self.observations.pack(),
            "notes": dict(sorted(self.notes.items())),
            "scans": dict(sorted(self.scans.items())),
            "merged_into": self.merged_into,
            "merged_from": self.merged_from,
        }

    @property
    def merged_into(self) -> str | None:
        """The patient that is scored instead of this one; None when this one is scored.

        A merge that closes a cycle is void while the others of the cycle stand: of A into B and B into A the later
        recorded one. So of every cycle exactly one patient is scored, and it has the history of all.
        """
        if self.links is None:
            return None
        link = self.links.standing
        if link is None:
            return None
        cycle = _edges(self.absorbed, link.into)
        return None if cycle and (link.epoch, self.patient) > max(cycle) else link.into

    @property
    def merged_from(self) -> tuple[str, ...]:
        """Patients whose events are part of this history, sorted."""
        return () if self.absorbed is None else tuple(sorted(set(_names(self.absorbed)) - {self.patient}))

    def standing_notes(self) -> list[tuple[str, NoteEntry]]:
        """Notes that count, newest first."""
        found = [(note_id, note) for note_id, note in self.notes.items() if note.stands]
        return sorted(found, key=lambda item: (item[1].time_ms, item[0]), reverse=True)


def _edges(absorbed: Absorbed | None, patient: str) -> list[tuple[Epoch, str]]:
    """The merges (epoch, who was merged) that lead from `patient` to the one who absorbed; empty when none do."""
    for name, part in () if absorbed is None else absorbed.parts.items():
        if part.state is None:
            continue
        deeper = _edges(part.state.absorbed, patient)
        if deeper or name == patient:
            return [*deeper, (part.epoch, name)]
    return []


def _names(absorbed: Absorbed | None) -> Iterator[str]:
    for name, part in () if absorbed is None else absorbed.parts.items():
        if part.state is not None:
            yield name
            yield from _names(part.state.absorbed)


def take(state: PatientState, event: Event) -> PatientState:
    """The state, of a patient who absorbed nobody, with one more event of the patient's own.

    An event whose offset on its topic is at or below the state's is a no-op (offset -1: no position known).

    Raises:
        ValueError: the event is another patient's.
    """
    if event.patient != state.patient:
        raise ValueError("the event belongs to another patient")
    offsets = state.offsets
    if event.offset >= 0:
        if event.offset <= offsets.get(event.kind, -1):
            return state
        offsets = {**offsets, event.kind: event.offset}
    if isinstance(event.data, PatientMerged | PatientUnmerged):  # said of the patient's records: nothing of the patient
        return replace(state, offsets=offsets, links=(state.links or Links()).told(event))
    newest_event = max(state.newest_event_ms, _newest_time(event))
    encounter, encounter_version = state.encounter, state.encounter_version
    told = (0, event.recorded_ms, event.version)
    if event.encounter is not None and (told, event.encounter) > (encounter_version, encounter or ""):
        encounter, encounter_version = event.encounter, told
    changed = replace(
        state,
        offsets=offsets,
        newest_event_ms=newest_event,
        newest_recorded_ms=max(state.newest_recorded_ms, event.recorded_ms, newest_event),
        encounter=encounter,
        encounter_version=encounter_version,
        **_changes(state, event),
    )
    return _expire(changed)


def union(histories: Sequence[PatientState]) -> dict[str, Any]:
    """The history, by field name, of one patient who had the events of all: what `take` would have made of them."""
    told = max(histories, key=lambda one: (one.encounter_version, one.encounter or ""))
    notes, scans = histories[0].notes, histories[0].scans
    for one in histories[1:]:
        for note_id, note in one.notes.items():
            notes = _put_note(notes, note_id, note)
        for instance_uid, scan in one.scans.items():
            scans = _put_scan(scans, instance_uid, scan)
    newest_event = max(one.newest_event_ms for one in histories)
    return {
        "encounter": told.encounter,
        "encounter_version": told.encounter_version,
        "newest_event_ms": newest_event,
        "newest_recorded_ms": max(one.newest_recorded_ms for one in histories),
        "observations": histories[0].observations.union([one.observations for one in histories[1:]]),
        "notes": _kept(notes, newest_event - DOCUMENT_RETENTION_MS, MAX_NOTES_KEPT),
        "scans": _kept(scans, newest_event - DOCUMENT_RETENTION_MS, MAX_SCANS_KEPT),
    }


def _newest_time(event: Event) -> int:
    if isinstance(event.data, Measurements):
        return max(item.time_ms for item in event.data.items)
    return event.time_ms


def _changes(state: PatientState, event: Event) -> dict[str, Any]:
    """The part of the state that the event's data touches, by field name."""
    match event.data:
        case Measurements(rank, items):
            writes = [
                Write(item.signal, item.time_ms, item.value, rank, event.recorded_ms, event.version) for item in items
            ]
            return {"observations": state.observations.put_all(writes)}
        case ObservationRetracted(code=code, time=time):
            write = Write(by_loinc[code], to_ms(time), 0.0, RETRACTED_RANK, event.recorded_ms, event.version)
            return {"observations": state.observations.put(write)}
        case Note(note_id=note_id, text=text):
            return {"notes": _put_note(state.notes, note_id, _note(event, ORIGINAL, text))}
        case NoteAmended(note_id=note_id, text=text):
            return {"notes": _put_note(state.notes, note_id, _note(event, AMENDED, text))}
        case NoteRetracted(note_id=note_id):
            return {"notes": _put_note(state.notes, note_id, _note(event, RETRACTED, ""))}
        case EncodedScan() as scan:
            return {"scans": _put_scan(state.scans, scan.instance_uid, _scan(event, scan))}
        case _:
            raise ValueError(f"{event.kind} events do not reach the patient's state")


def _note(event: Event, rank: int, text: str) -> NoteEntry:
    return NoteEntry(event.time_ms, (rank, event.recorded_ms, event.version), text[:TEXT_KEPT])


def _put_note(notes: Mapping[str, NoteEntry], note_id: str, note: NoteEntry) -> Mapping[str, NoteEntry]:
    held = notes.get(note_id)
    if held is not None and (held.version, held.time_ms, held.text) >= (note.version, note.time_ms, note.text):
        return notes
    return {**notes, note_id: note}


def _scan(event: Event, scan: EncodedScan) -> ScanEntry:
    return ScanEntry(
        series_uid=scan.series_uid,
        time_ms=event.time_ms,
        version=(0, event.recorded_ms, event.version),
        modality=scan.modality,
        content_sha256=scan.content_sha256,
        encoder=scan.encoder,
        embedding=scan.embedding,
    )


def _put_scan(scans: Mapping[str, ScanEntry], instance_uid: str, entry: ScanEntry) -> Mapping[str, ScanEntry]:
    held = scans.get(instance_uid)
    if held is not None and (held.version, held.content_sha256) >= (entry.version, entry.content_sha256):
        return scans
    return {**scans, instance_uid: entry}


def _expire(state: PatientState) -> PatientState:
    """Drops documents that left history, then the oldest over the caps."""
    horizon = state.newest_event_ms - DOCUMENT_RETENTION_MS
    notes = _kept(state.notes, horizon, MAX_NOTES_KEPT)
    scans = _kept(state.scans, horizon, MAX_SCANS_KEPT)
    if notes is state.notes and scans is state.scans:
        return state
    return replace(state, notes=notes, scans=scans)


def _kept(entries: Mapping[str, Any], horizon_ms: int, cap: int) -> Mapping[str, Any]:
    if len(entries) <= cap and all(entry.time_ms > horizon_ms for entry in entries.values()):
        return entries
    alive = sorted(
        ((key, entry) for key, entry in entries.items() if entry.time_ms > horizon_ms),
        key=lambda item: (item[1].time_ms, item[0]),
    )
    return dict(alive[-cap:])
