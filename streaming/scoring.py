"""A patient's state to the predictor's inputs, and its answer to a score. Owns slots, ages and the embedding cache.

Used alike by the live worker, the offline check and training, so that they cannot drift apart. Runs in a worker
thread: no I/O, no event loop.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from models import conformal
from models.conditions import BY_NAME
from models.predictor import Predictor
from models.signals import SIGNALS, by_name
from models.window import MAX_NOTES, MAX_SERIES, MODALITIES, SLOTS
from streaming import news2
from streaming.blocks import tag_of
from streaming.clock import HOUR_MS
from streaming.history import TEXT_KEPT, Embedding, PatientState, ScanEntry
from streaming.messages import Modality
from streaming.observations import windows

NEWS2_MAX_AGE_MS = 24 * HOUR_MS
"""A vital sign older than a day says nothing of now."""

_NEWS2_SIGNALS = frozenset(by_name[name] for name in news2.READ)

VITALS = "vitals"

KEPT_AHEAD = 1_024
"""Vectors of notes that were encoded before their events were applied; the oldest are forgotten and made again."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a score knew of one modality: `items` measurements, notes or series; age in ms of the newest."""

    items: int
    age_ms: int | None


@dataclass(frozen=True, slots=True)
class Scored:
    """One score of one patient. Arrays follow `card.conditions` (C) and `MODALITIES` (M)."""

    as_of_ms: int
    probability: NDArray[np.float32]  # [C]
    low: NDArray[np.float32]  # [C]
    high: NDArray[np.float32]  # [C]
    contribution: NDArray[np.float32]  # [C, M]
    contains: NDArray[np.bool_] | None  # [C, 2] of `conformal.OUTCOMES`; None: the artifact has no prediction sets
    abstains: NDArray[np.bool_]  # [C]
    asked: NDArray[np.bool_]  # [C]; the other arrays say nothing of a condition that is not asked of this patient
    uses: dict[Modality, Use]
    news2: int | None


_FIRST: dict[str, int] = {name: SLOTS.index(name) for name in MODALITIES}
_UNUSED = Use(0, None)
_NEEDED = frozenset[str]().union(*(condition.needs for condition in BY_NAME.values()))


class _Slots:
    """A batch of fusion inputs, filled patient by patient."""

    def __init__(self, rows: int, width: int) -> None:
        self.tokens = np.zeros((rows, len(SLOTS), width), np.float32)
        self.present = np.zeros((rows, len(SLOTS)), np.float32)
        self.age_h = np.zeros((rows, len(SLOTS)), np.float32)

    def fill(self, row: int, slot: int, vector: NDArray[np.float32], age_ms: int) -> None:
        self.tokens[row, slot] = vector
        self.present[row, slot] = 1.0
        self.age_h[row, slot] = age_ms / HOUR_MS


class Scorer:
    """Embeds what changed, fuses, and reports. One instance per worker thread."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.card = predictor.card
        self._conditions = [BY_NAME[name] for name in self.card.conditions]
        self._asked_of: dict[frozenset[str], NDArray[np.bool_]] = {}
        self._ahead: dict[str, NDArray[np.float32]] = {}  # by content's tag
        self._embedding_length = len(base64.b64encode(bytes(4 * self.card.width)))

    def embed(self, states: Sequence[PatientState]) -> list[PatientState]:
        """The same states with every embedding that fusion needs; only missing ones are computed, in batches."""
        states = list(states)
        self._embed_vitals(states)
        self._embed_notes(states)
        return states

    def has_new_notes(self, states: Sequence[PatientState]) -> bool:
        """Whether `embed` would run the note encoder."""
        return any(tag not in self._ahead for _, _, tag, _ in self._new_notes(states))

    def takes_long(self, states: Sequence[PatientState]) -> bool:
        """Whether `embed` would take milliseconds for one of them."""
        return self.has_new_notes(states) or any(state.observations.cold for state in states)

    def encode_ahead(self, text: str) -> None:
        """Runs the note encoder on a note that stands in no state yet; `embed` will find its vector. May run in a thread
        while another embeds, but not beside one that runs the note encoder too."""
        text = text[:TEXT_KEPT]  # as the state will have it
        tag = _note_tag(text)
        if tag not in self._ahead:
            (self._ahead[tag],) = self.predictor.encode_notes([text])
            if len(self._ahead) > KEPT_AHEAD:
                del self._ahead[next(iter(self._ahead))]

    def score(self, states: Sequence[PatientState], as_of_ms: Sequence[int]) -> list[Scored]:
        """Scores of embedded states, each at its time."""
        if not states:
            return []
        slots = _Slots(len(states), self.card.width)
        uses = [
            self._fill(slots, row, state, now) for row, (state, now) in enumerate(zip(states, as_of_ms, strict=True))
        ]
        fused = self.predictor.fuse(slots.tokens, slots.present, slots.age_h)
        sets = self.card.conformal
        contains = None if sets is None else sets.contains(fused.probability)
        abstains = np.zeros(fused.probability.shape, bool) if contains is None else conformal.abstains(contains)
        return [
            Scored(
                as_of_ms=now,
                probability=fused.probability[row],
                low=fused.low[row],
                high=fused.high[row],
                contribution=fused.contribution[row],
                contains=None if contains is None else contains[row],
                abstains=abstains[row],
                asked=self._asked(state),
                uses=used,
                news2=_news2(state, now),
            )
            for row, (state, now, used) in enumerate(zip(states, as_of_ms, uses, strict=True))
        ]

    def _asked(self, state: PatientState) -> NDArray[np.bool_]:
        """Which conditions there is something to ask of: a lung nodule, say, only of a patient with a CT."""
        kinds = _NEEDED.intersection(scan.modality for scan in state.scans.values() if self._usable(scan))
        found = self._asked_of.get(kinds)
        if found is None:
            found = self._asked_of[kinds] = np.array([condition.asked(kinds) for condition in self._conditions])
        return found

    def _embed_vitals(self, states: list[PatientState]) -> None:
        encoder = self.card.encoder_hashes["vitals"]
        rows: list[int] = []
        tags: list[str] = []
        for row, state in enumerate(states):
            tag = state.observations.tag()
            held = state.embeddings.get(VITALS)
            if held is not None and held.encoder == encoder and held.content == tag:
                continue
            if state.observations.newest_ms is not None:
                rows.append(row)
                tags.append(tag)
        if not rows:
            return
        vectors = self.predictor.encode_vitals(windows([states[row].observations for row in rows]))
        for row, tag, vector in zip(rows, tags, vectors, strict=True):
            states[row] = _with_embedding(states[row], VITALS, encoder, tag, vector)

    def _new_notes(self, states: Sequence[PatientState]) -> list[tuple[int, str, str, str]]:
        """Row, embedding's name, content's tag, text."""
        encoder = self.card.encoder_hashes["notes"]
        wanted: list[tuple[int, str, str, str]] = []
        for row, state in enumerate(states):
            for note_id, note in state.standing_notes()[:MAX_NOTES]:
                name, tag = f"note:{note_id}", _note_tag(note.text)
                held = state.embeddings.get(name)
                if held is None or held.encoder != encoder or held.content != tag:
                    wanted.append((row, name, tag, note.text))
        return wanted

    def _embed_notes(self, states: list[PatientState]) -> None:
        wanted = self._new_notes(states)
        if not wanted:
            return
        encoder = self.card.encoder_hashes["notes"]
        vectors = {tag: vector for _, _, tag, _ in wanted if (vector := self._ahead.get(tag)) is not None}
        texts = {tag: text for _, _, tag, text in wanted if tag not in vectors}
        if texts:
            vectors |= zip(texts, self.predictor.encode_notes(list(texts.values())), strict=True)
        for row, name, tag, _ in wanted:
            states[row] = _with_embedding(_without_stale(states[row]), name, encoder, tag, vectors[tag])

    def _fill(self, slots: _Slots, row: int, state: PatientState, as_of_ms: int) -> dict[Modality, Use]:
        """Puts the patient's embeddings where they belong; gives what was used."""
        uses: dict[Modality, Use] = dict.fromkeys(MODALITIES, _UNUSED)

        def fill(modality: Modality, vectors: Sequence[tuple[int, NDArray[np.float32]]], items: int) -> None:
            for place, (time_ms, vector) in enumerate(vectors):  # newest first
                slots.fill(row, _FIRST[modality] + place, vector, max(0, as_of_ms - time_ms))
            uses[modality] = Use(items, max(0, as_of_ms - vectors[0][0]))

        if VITALS in state.embeddings and (newest_ms := state.observations.newest_ms) is not None:
            fill("vitals", [(newest_ms, _vector(state.embeddings[VITALS]))], state.observations.count)
        if state.notes:
            notes = state.standing_notes()[:MAX_NOTES]
            told = [(note.time_ms, _vector(state.embeddings[f"note:{note_id}"])) for note_id, note in notes]
            if told:
                fill("notes", told, len(told))
        if state.scans:
            series = self._series(state)[:MAX_SERIES]
            if series:
                fill("scans", series, len(series))
        return uses

    def _series(self, state: PatientState) -> list[tuple[int, NDArray[np.float32]]]:
        """Per series its newest time and the mean embedding of its usable instances, newest first."""
        groups: dict[str, list[tuple[str, ScanEntry]]] = {}
        for instance_uid, scan in sorted(state.scans.items()):
            if self._usable(scan):
                groups.setdefault(scan.series_uid, []).append((instance_uid, scan))
        found = []
        for series_uid, members in groups.items():
            vectors = [np.frombuffer(base64.b64decode(scan.embedding), "<f4") for _, scan in members]
            mean = np.mean(np.stack(vectors), axis=0, dtype=np.float64).astype(np.float32)
            found.append((max(scan.time_ms for _, scan in members), series_uid, mean))
        found.sort(key=lambda item: item[:2], reverse=True)
        return [(time_ms, mean) for time_ms, _, mean in found]

    def _usable(self, scan: ScanEntry) -> bool:
        """Another encoder's numbers mean something else; of another width they are not this one's, whatever was said."""
        return scan.encoder == self.card.encoder_hashes["scans"] and len(scan.embedding) == self._embedding_length


@lru_cache(KEPT_AHEAD)
def _note_tag(text: str) -> str:
    """Every update of a patient asks for the same notes' tags, more than once."""
    return tag_of(text.encode()).hex()


def _vector(embedding: Embedding) -> NDArray[np.float32]:
    return np.frombuffer(embedding.vector, "<f4")


def _with_embedding(
    state: PatientState, name: str, encoder: str, tag: str, vector: NDArray[np.float32]
) -> PatientState:
    made = Embedding(encoder, tag, np.ascontiguousarray(vector, "<f4").tobytes())
    return replace(state, embeddings={**state.embeddings, name: made})


def _without_stale(state: PatientState) -> PatientState:
    """Without embeddings of notes that no longer stand."""
    standing = {VITALS, *(f"note:{note_id}" for note_id, _ in state.standing_notes())}
    if standing >= state.embeddings.keys():
        return state
    return replace(state, embeddings={k: v for k, v in state.embeddings.items() if k in standing})


def _news2(state: PatientState, as_of_ms: int) -> int | None:
    latest = state.observations.latest(_NEWS2_SIGNALS)
    return news2.score(
        {
            SIGNALS[signal].name: value
            for signal, (time_ms, value) in latest.items()
            if as_of_ms - time_ms <= NEWS2_MAX_AGE_MS
        }
    )
