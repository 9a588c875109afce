"""One patient's partial state and its reducer. Pure: no clock, no I/O, no randomness.

Invariants, property-tested:
- `apply` is order-free and idempotent: the same events in any order, each any number of times, give the same
  history (`PatientState.history()`), as long as no cap (`MAX_NOTES_KEPT`, `MAX_SCANS_KEPT`) is reached.
- one patient's event never touches another's state.
Leaves what may page to `alerting.py`, embeddings' making to `scoring.py`, bytes for Redis to `codec.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from models.signals import by_loinc
from streaming.alerting import PolicyState
from streaming.clock import HOUR_MS
from streaming.envelope import Event, Measurements, to_ms
from streaming.messages import EncodedScan, Note, NoteAmended, NoteRetracted, ObservationRetracted
from streaming.observations import RETRACTED_RANK, Observations, Write

DOCUMENT_RETENTION_MS = 7 * 24 * HOUR_MS
"""Notes and scans older than this, seen from the patient's newest event, have left history."""
MAX_NOTES_KEPT = 16
MAX_SCANS_KEPT = 128
TEXT_KEPT = 6_000
"""Characters of a note that are kept: more than the note encoder reads."""

NEVER_MS = -62_135_596_800_000
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
class PatientState:
    """Everything known of one patient. Immutable; replaced on every event."""

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

    def history(self) -> dict[str, Any]:
        """What the events amount to: equal in every run. Without offsets, alert episodes and caches."""
        return {
            "encounter": self.encounter,
            "newest_event_ms": self.newest_event_ms,
            "newest_recorded_ms": self.newest_recorded_ms,
            "observations": self.observations.pack(),
            "notes": dict(sorted(self.notes.items())),
            "scans": dict(sorted(self.scans.items())),
        }

    def standing_notes(self) -> list[tuple[str, NoteEntry]]:
        """Notes that count, newest first."""
        found = [(note_id, note) for note_id, note in self.notes.items() if note.stands]
        return sorted(found, key=lambda item: (item[1].time_ms, item[0]), reverse=True)


def apply(state: PatientState, event: Event) -> PatientState:
    """The state with this event in it.

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


def _newest_time(event: Event) -> int:
    if isinstance(event.data, Measurements):
        return max(item.time_ms for item in event.data.items)
    return event.time_ms


def _changes(state: PatientState, event: Event) -> dict[str, Any]:
    """The part of the state that the event's data touches, by field name."""
    match event.data:
        case Measurements(rank, items):
            observations = state.observations
            for item in items:
                observations = observations.put(
                    Write(item.signal, item.time_ms, item.value, rank, event.recorded_ms, event.version)
                )
            return {"observations": observations}
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
            return {"scans": _put_scan(state.scans, event, scan)}
        case _:
            raise ValueError(f"{event.kind} events do not reach the patient's state")


def _note(event: Event, rank: int, text: str) -> NoteEntry:
    return NoteEntry(event.time_ms, (rank, event.recorded_ms, event.version), text[:TEXT_KEPT])


def _put_note(notes: Mapping[str, NoteEntry], note_id: str, note: NoteEntry) -> Mapping[str, NoteEntry]:
    held = notes.get(note_id)
    if held is not None and (held.version, held.time_ms, held.text) >= (note.version, note.time_ms, note.text):
        return notes
    return {**notes, note_id: note}


def _put_scan(scans: Mapping[str, ScanEntry], event: Event, scan: EncodedScan) -> Mapping[str, ScanEntry]:
    entry = ScanEntry(
        series_uid=scan.series_uid,
        time_ms=event.time_ms,
        version=(0, event.recorded_ms, event.version),
        modality=scan.modality,
        content_sha256=scan.content_sha256,
        encoder=scan.encoder,
        embedding=scan.embedding,
    )
    held = scans.get(scan.instance_uid)
    if held is not None and (held.version, held.content_sha256) >= (entry.version, entry.content_sha256):
        return scans
    return {**scans, scan.instance_uid: entry}


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
