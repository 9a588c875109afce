"""A patient's state as the fields of one Redis hash and back. Owns the stored form; leaves Redis to `store.py`.

`summary` is JSON that a person can read with redis-cli; the bulky parts are fields of their own, so that an event
writes only the part it changed.
"""

import base64
import zlib
from collections.abc import Mapping

import orjson

from models.signals import SIGNALS
from streaming.alerting import PolicyState
from streaming.envelope import from_ms
from streaming.observations import Observations
from streaming.state import Embedding, NoteEntry, PatientState, ScanEntry

FORMAT = 1


def encode(state: PatientState, before: PatientState | None = None) -> dict[str, bytes]:
    """Fields to write; with `before`, only those that differ from it (`summary` always)."""
    fields = {"summary": _summary(state)}
    if before is None or state.observations is not before.observations:
        fields["observations"] = state.observations.pack()
    if before is None or state.notes is not before.notes:
        fields["notes"] = zlib.compress(
            orjson.dumps({key: [n.time_ms, n.version, n.text] for key, n in state.notes.items()}), 1
        )
    if before is None or state.scans is not before.scans:
        fields["scans"] = orjson.dumps(
            {
                key: [s.series_uid, s.time_ms, s.version, s.modality, s.content_sha256, s.encoder, s.embedding]
                for key, s in state.scans.items()
            }
        )
    if before is None or state.embeddings is not before.embeddings:
        fields["embeddings"] = orjson.dumps(
            {key: [e.encoder, e.content, base64.b64encode(e.vector).decode()] for key, e in state.embeddings.items()}
        )
    return fields


def decode(patient: str, fields: Mapping[bytes, bytes]) -> PatientState:
    """The state that `encode` wrote.

    Raises:
        ValueError: the fields are of another format or another patient.
    """
    summary = orjson.loads(fields[b"summary"])
    if summary["format"] != FORMAT or summary["patient"] != patient:
        raise ValueError("stored state has another format or another patient")
    notes = orjson.loads(zlib.decompress(fields[b"notes"]))
    scans = orjson.loads(fields[b"scans"])
    embeddings = orjson.loads(fields[b"embeddings"])
    return PatientState(
        patient=patient,
        encounter=summary["encounter"],
        encounter_version=tuple(summary["encounter_version"]),
        newest_event_ms=summary["newest_event_ms"],
        newest_recorded_ms=summary["newest_recorded_ms"],
        observations=Observations.unpack(fields[b"observations"]),
        notes={key: NoteEntry(time, tuple(version), text) for key, (time, version, text) in notes.items()},
        scans={
            key: ScanEntry(series, time, tuple(version), modality, content, encoder, embedding)
            for key, (series, time, version, modality, content, encoder, embedding) in scans.items()
        },
        offsets=summary["offsets"],
        policy=PolicyState.from_json(summary["policy"]),
        embeddings={
            key: Embedding(encoder, content, base64.b64decode(vector))
            for key, (encoder, content, vector) in embeddings.items()
        },
    )


def _summary(state: PatientState) -> bytes:
    return orjson.dumps(
        {
            "format": FORMAT,
            "patient": state.patient,
            "encounter": state.encounter,
            "encounter_version": state.encounter_version,
            "newest_event": from_ms(state.newest_event_ms),
            "newest_event_ms": state.newest_event_ms,
            "newest_recorded_ms": state.newest_recorded_ms,
            "measurements": len(state.observations.entries),
            "signals": sorted({SIGNALS[s].name for s in set((state.observations.entries["key"] & 0xFF).tolist())}),
            "notes": len(state.notes),
            "scans": len(state.scans),
            "offsets": state.offsets,
            "policy": state.policy.to_json(),
        }
    )
