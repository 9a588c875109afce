"""Stays to arrays, through the live reducer. Shapes: N snapshots, T hours, V signals, S slots, C conditions.

An event enters the state only when a snapshot lies at or after it, so no feature sees the future (tested).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.conditions import NAMES
from models.kinds import one_hot
from models.tokens import SENTENCES, WORDS, tokenize
from models.window import BINS, MAX_NOTES, SLOTS, PatientWindow, R, Summarised, V, WindowBatch
from streaming.clock import HOUR_MS
from streaming.state import PatientState, apply
from training.cohort import strata
from training.stays import Stay

_NO_WINDOW = PatientWindow(np.zeros((BINS, 2 * V), np.float32), np.zeros((R, V), np.float32))


@dataclass(frozen=True, slots=True)
class Examples(Summarised):
    """Everything a batch is cut from. Texts and pictures are held once and pointed to (-1: none)."""

    values: NDArray[np.float32]  # [N, T, V]
    mask: NDArray[np.bool_]  # [N, T, V]; one byte each: hundreds of thousands of hours fit into memory
    summary: NDArray[np.float32]  # [N, R, V]
    present: NDArray[np.float32]  # [N, S]
    age_h: NDArray[np.float32]  # [N, S]
    note_at: NDArray[np.int64]  # [N, MAX_NOTES]
    picture_at: NDArray[np.int64]  # [N]
    labels: NDArray[np.float32]  # [N, C], NaN where unknown
    taught: NDArray[np.float32]  # [N, C] what training is told in their place (`Stay.taught`)
    group: NDArray[np.str_]  # [N] patients, for splits
    cluster: NDArray[np.str_]  # [N] whose rows count as one (`Stay.cluster`)
    source: NDArray[np.str_]  # [N]
    stay: NDArray[np.str_]  # [N] whose rows are together, in order of time
    site: NDArray[np.str_]  # [N]
    snapshot: NDArray[np.int64]  # [N] ordinal of the snapshot within its stay, those before anything is known counted
    first_event: NDArray[np.float32]  # [N, C] `Stay.first_event`, an ordinal as well
    texts: Sequence[str]
    pictures: NDArray[np.float32]  # [P, 224, 224]
    kinds: NDArray[np.float32]  # [P, K]

    @property
    def stratum(self) -> NDArray[np.int64]:
        """[N] what parts of a split must have their share of (`cohort.strata`)."""
        return strata(self.group, self.source, self.labels)

    def window(self, rows: NDArray[np.int64] | slice) -> WindowBatch:
        """The vitals encoder's inputs."""
        bins = np.concatenate([self.values[rows], self.mask[rows]], axis=-1, dtype=np.float32)
        return WindowBatch(bins, self.summary[rows])

    def note_ids(self, tokenizer: Tokenizer) -> NDArray[np.int64]:
        """[texts, 16, 16]"""
        return tokenize(tokenizer, self.texts) if self.texts else np.zeros((0, SENTENCES, WORDS), np.int64)


def build(stays: Iterable[Stay], conditions: Sequence[str] = NAMES) -> Examples:
    """Every stay at every snapshot at which something is known of it."""
    rows: dict[str, list] = {name: [] for name in Examples.__slots__}
    texts: dict[str, int] = {}
    pictures: list[NDArray[np.float32]] = []
    kinds: list[str] = []
    for stay in stays:
        first_picture = len(pictures)
        pictures += [picture.pixels for picture in stay.pictures]
        kinds += [picture.kind for picture in stay.pictures]
        state, done = PatientState(stay.patient), 0
        first_event = [stay.first_event(condition) for condition in conditions]
        for ordinal, snapshot in enumerate(stay.snapshots):
            while done < len(stay.events) and stay.events[done].recorded_ms <= snapshot:
                state = apply(state, stay.events[done])
                done += 1
            seen = [i for i, picture in enumerate(stay.pictures) if picture.time_ms <= snapshot]
            if not _row(rows, state, snapshot, texts, first_picture + seen[-1] if seen else -1, stay, seen):
                continue
            label = {condition: _label(stay, condition, ordinal) for condition in conditions}
            rows["labels"].append([*label.values()])
            rows["taught"].append([stay.taught.get(condition, known) for condition, known in label.items()])
            rows["group"].append(stay.group)
            rows["cluster"].append(stay.cluster)
            rows["source"].append(stay.source)
            rows["stay"].append(stay.patient)
            rows["site"].append(stay.site)
            rows["snapshot"].append(ordinal)
            rows["first_event"].append(first_event)
    kind = {"note_at": np.int64, "picture_at": np.int64, "snapshot": np.int64, "mask": np.bool_}
    return Examples(
        **{
            name: np.array(rows.pop(name), kind.get(name, np.float32))
            for name in Examples.__slots__
            if name not in ("group", "cluster", "source", "stay", "site", "texts", "pictures", "kinds")
        },
        group=np.array(rows["group"]),
        cluster=np.array(rows["cluster"]),
        source=np.array(rows["source"]),
        stay=np.array(rows["stay"]),
        site=np.array(rows["site"]),
        texts=list(texts),
        pictures=np.array(pictures, np.float32) if pictures else np.zeros((0, 224, 224), np.float32),
        kinds=one_hot(kinds),
    )


def _label(stay: Stay, condition: str, ordinal: int) -> float:
    if condition in stay.hourly:
        return stay.hourly[condition][ordinal]
    return stay.labels.get(condition, np.nan)


def _row(
    rows: dict[str, list],
    state: PatientState,
    snapshot: int,
    texts: dict[str, int],
    picture: int,
    stay: Stay,
    seen: Sequence[int],
) -> bool:
    present, age_h = np.zeros(len(SLOTS), np.float32), np.zeros(len(SLOTS), np.float32)

    def mark(slot: int, time_ms: int) -> None:
        present[slot], age_h[slot] = 1.0, max(0, snapshot - time_ms) / HOUR_MS

    window = state.observations.window()
    anchor = state.observations.newest_ms
    if anchor is not None:
        mark(SLOTS.index("vitals"), anchor)
    note_at = [-1] * MAX_NOTES
    for place, (_, note) in enumerate(state.standing_notes()[:MAX_NOTES]):
        note_at[place] = texts.setdefault(note.text, len(texts))
        mark(SLOTS.index("notes") + place, note.time_ms)
    if picture >= 0:
        mark(SLOTS.index("scans"), stay.pictures[seen[-1]].time_ms)
    if not present.any():
        return False
    window = window or _NO_WINDOW
    rows["values"].append(window.bins[:, :V].copy())  # a view would keep the other half, too
    rows["mask"].append(window.bins[:, V:] > 0)
    rows["summary"].append(window.summary)
    rows["present"].append(present)
    rows["age_h"].append(age_h)
    rows["note_at"].append(note_at)
    rows["picture_at"].append(picture)
    return True
