"""A patient's state as the fields of one Redis hash and back. Owns the stored form; leaves Redis to `store.py`.

`summary` is JSON that a person can read with redis-cli; the bulky parts are fields of their own, so that an event
writes only the part it changed.
"""

import base64
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from models.signals import SIGNALS
from streaming.alerting import PolicyState
from streaming.blocks import Block
from streaming.clock import from_ms
from streaming.errors import Fatal
from streaming.history import Absorbed, Embedding, NoteEntry, Part, PatientState, ScanEntry, union
from streaming.links import Link, Links
from streaming.observations import BLOCKS, Observations

FORMAT = 3

_BLOCK = "block:"
_BLOCK_NAME = _BLOCK.encode()
_INDEX_BYTES = 8
_PLACES = BLOCKS + 1
"""Blocks are stored in a ring of so many fields, each under its index: a newer one takes the field of one that has left
history."""


def encode(state: PatientState, before: PatientState | None = None) -> dict[str, bytes]:
    """Fields to write; with `before`, only those that differ from it (`summary` always)."""
    fields = {"summary": _summary(state)}
    if before is None or state.observations is not before.observations:
        fields |= _measurements(state.observations, None if before is None else before.observations)
    if before is None or state.notes is not before.notes:
        fields["notes"] = zlib.compress(orjson.dumps(_notes(state)), 1)
    if before is None or state.scans is not before.scans:
        fields["scans"] = orjson.dumps(_scans(state))
    if before is None or state.embeddings is not before.embeddings:
        fields["embeddings"] = orjson.dumps(
            {key: [e.encoder, e.content, base64.b64encode(e.vector).decode()] for key, e in state.embeddings.items()}
        )
    if state.absorbed is not None and (before is None or state.absorbed is not before.absorbed):
        fields["absorbed"] = zlib.compress(orjson.dumps(_absorbed(state.absorbed)), 1)
    return fields


def decode(patient: str, fields: Mapping[bytes, bytes]) -> PatientState:
    """The state that `encode` wrote.

    Raises:
        Fatal: another version wrote it.
        ValueError: it is another patient's.
    """
    summary = orjson.loads(fields[b"summary"])
    if summary["format"] != FORMAT:
        raise Fatal(
            f"Redis holds states in format {summary['format']}, not {FORMAT}: another version wrote them. Remove this "
            "prefix's keys from Redis; the states are rebuilt from Kafka"
        )
    if summary["patient"] != patient:
        raise ValueError("stored state is another patient's")
    embeddings = orjson.loads(fields[b"embeddings"])
    return PatientState(
        patient=patient,
        encounter=summary["encounter"],
        encounter_version=tuple(summary["encounter_version"]),
        newest_event_ms=summary["newest_event_ms"],
        newest_recorded_ms=summary["newest_recorded_ms"],
        observations=_observations(fields),
        notes=_note_entries(orjson.loads(zlib.decompress(fields[b"notes"]))),
        scans=_scan_entries(orjson.loads(fields[b"scans"])),
        offsets=summary["offsets"],
        policy=PolicyState.from_json(summary["policy"]),
        embeddings={
            key: Embedding(encoder, content, base64.b64decode(vector))
            for key, (encoder, content, vector) in embeddings.items()
        },
        links=_links_from(summary.get("links")),
        absorbed=_absorbed_from(patient, orjson.loads(zlib.decompress(fields[b"absorbed"])))
        if b"absorbed" in fields
        else None,
    )


def _measurements(now: Observations, before: Observations | None) -> dict[str, bytes]:
    """A field for the static ones and for each block that changed; one that is gone is written without entries."""
    fields = {}
    if before is None or now.static != before.static:
        fields["static"] = now.static
    held, kept = set(() if before is None else before.blocks), set(now.blocks)
    for block in held - kept:
        fields[_field(block)] = _index(block)
    for block in kept - held:
        fields[_field(block)] = _index(block) + block.entries
    return fields


def _field(block: Block) -> str:
    return f"{_BLOCK}{block.index % _PLACES}"


def _index(block: Block) -> bytes:
    return block.index.to_bytes(_INDEX_BYTES, "little", signed=True)


def _observations(fields: Mapping[bytes, bytes]) -> Observations:
    blocks = [
        Block(int.from_bytes(value[:_INDEX_BYTES], "little", signed=True), value[_INDEX_BYTES:])
        for name, value in fields.items()
        if name.startswith(_BLOCK_NAME) and len(value) > _INDEX_BYTES
    ]
    return Observations.of(blocks, fields[b"static"])


def history(state: PatientState) -> dict[str, Any]:
    """A state's history as JSON: what `messages.HistoryJoined` carries, and how each part of a merge is stored."""
    return {
        "encounter": state.encounter,
        "encounter_version": state.encounter_version,
        "newest_event_ms": state.newest_event_ms,
        "newest_recorded_ms": state.newest_recorded_ms,
        "observations": base64.b64encode(state.observations.pack()).decode(),
        "notes": _notes(state),
        "scans": _scans(state),
    }


def from_history(patient: str, data: Mapping[str, Any]) -> PatientState:
    """The state, without offsets, policy and embeddings, that `history` told of.

    Raises:
        ValueError: the measurements are not what `history` packs.
    """
    return PatientState(
        patient=patient,
        encounter=data["encounter"],
        encounter_version=tuple(data["encounter_version"]),
        newest_event_ms=data["newest_event_ms"],
        newest_recorded_ms=data["newest_recorded_ms"],
        observations=Observations.unpack_checked(base64.b64decode(data["observations"], validate=True)),
        notes=_note_entries(data["notes"]),
        scans=_scan_entries(data["scans"]),
    )


def _notes(state: PatientState) -> dict[str, Any]:
    return {key: [n.time_ms, n.version, n.text] for key, n in state.notes.items()}


def _note_entries(data: Mapping[str, Any]) -> dict[str, NoteEntry]:
    return {key: NoteEntry(time, tuple(version), text) for key, (time, version, text) in data.items()}


def _scans(state: PatientState) -> dict[str, Any]:
    return {
        key: [s.series_uid, s.time_ms, s.version, s.modality, s.content_sha256, s.encoder, s.embedding]
        for key, s in state.scans.items()
    }


def _scan_entries(data: Mapping[str, Any]) -> dict[str, ScanEntry]:
    return {
        key: ScanEntry(series, time, tuple(version), modality, content, encoder, embedding)
        for key, (series, time, version, modality, content, encoder, embedding) in data.items()
    }


def _absorbed(absorbed: Absorbed) -> dict[str, Any]:
    """The parts' unions are left out: they follow from what they are unions of."""
    return {
        "own": history(absorbed.own),
        "parts": {
            name: [
                part.epoch,
                None if part.state is None else _absorbed(part.state.absorbed or Absorbed(part.state, {})),
            ]
            for name, part in absorbed.parts.items()
        },
    }


def _absorbed_from(patient: str, data: Mapping[str, Any]) -> Absorbed:
    parts = {}
    for name, (epoch, inner) in data["parts"].items():
        state = None
        if inner is not None:
            found = _absorbed_from(name, inner)
            state = replace(found.own, absorbed=found, **union(found.histories)) if found.parts else found.own
        parts[name] = Part(tuple(epoch), state)
    return Absorbed(from_history(patient, data["own"]), parts)


def _links(links: Links | None) -> dict[str, Any] | None:
    if links is None:
        return None
    merge = links.merge
    return {"merge": None if merge is None else [merge.into, merge.epoch, merge.offset], "undone": links.undone}


def _links_from(data: Mapping[str, Any] | None) -> Links | None:
    if data is None:
        return None
    merge = data["merge"]
    return Links(
        None if merge is None else Link(merge[0], tuple(merge[1]), merge[2]),
        {name: tuple(epoch) for name, epoch in data["undone"].items()},
    )


def _summary(state: PatientState) -> bytes:
    merged = state.links is not None or state.absorbed is not None
    told = {
        "links": _links(state.links),
        "merged_into": state.merged_into,
        "merged_from": state.merged_from,
    }
    return orjson.dumps(
        {
            "format": FORMAT,
            "patient": state.patient,
            "encounter": state.encounter,
            "encounter_version": state.encounter_version,
            "newest_event": from_ms(state.newest_event_ms),
            "newest_event_ms": state.newest_event_ms,
            "newest_recorded_ms": state.newest_recorded_ms,
            "measurements": state.observations.standing,
            "signals": sorted(SIGNALS[signal].name for signal in state.observations.newest),
            "notes": len(state.notes),
            "scans": len(state.scans),
            "offsets": state.offsets,
            "policy": state.policy.to_json(),
            **(told if merged else {}),
        }
    )
