"""Stays to scores, through the live reducer and the live scorer, as a worker serves them. Owns rows, no figures.

A condition that stands for the stay is scored at the data set's last snapshot (a stay that ended before it does not
count, as in `metrics.tasks`), an hourly one at every snapshot. Stays go in lock step, so that a state and its embeddings
are carried from hour to hour and scored in batches. A score that rests on nothing of the patient (all its data missing
or taken away) is kept: the model says then what it knows of anybody.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.predictor import Predictor
from models.signals import by_name
from streaming.history import ScanEntry
from streaming.scoring import Scored, Scorer
from streaming.state import PatientState, apply
from training.stays import Stay

_STAYS = 128
_KEPT = (
    "probability", "abstains", "labels", "standing", "hour", "first_event", "source", "cluster", "stay", "site", "age", "male",
    "items",
)  # fmt: skip
_AGE, _MALE = by_name["age"], by_name["male"]


@dataclass(frozen=True, slots=True)
class Scores:
    """N rows in order of stays, each stay's in order of time. C follows `conditions`."""

    conditions: tuple[str, ...]
    probability: NDArray[np.float32]  # [N, C]
    abstains: NDArray[np.bool_]  # [N, C]
    labels: NDArray[np.float32]  # [N, C], NaN where it does not count
    cluster: NDArray[np.str_]  # [N] patients (`Stay.cluster`)
    stay: NDArray[np.str_]
    hour: NDArray[np.int64]  # [N] ordinal of the snapshot within its stay
    first_event: NDArray[np.float32]  # [N, C] `Stay.first_event`, an ordinal as well
    site: NDArray[np.str_]
    age: NDArray[np.float32]  # [N] years, NaN where unknown
    male: NDArray[np.float32]
    items: NDArray[np.int64]  # [N] measurements, notes and series that the score rests on

    def rows(self, condition: str) -> NDArray[np.int64]:
        """Rows that count for a condition."""
        return np.flatnonzero(~np.isnan(self.labels[:, self.conditions.index(condition)]))


def score(predictor: Predictor, stays: Iterable[Stay], report: Callable[[str], None] = lambda line: None) -> Scores:
    """Scores of every stay that has a label for one of the predictor's conditions."""
    scorer = Scorer(predictor)
    names = tuple(predictor.card.conditions)
    rows: dict[str, list] = {name: [] for name in _KEPT}
    done = 0
    for chunk in _chunks(stays, _STAYS):
        done += len(chunk)
        walks = [_Walk(stay, predictor) for stay in chunk if any(_counts(stay, name) for name in names)]
        for ordinal in range(max((len(walk.stay.snapshots) for walk in walks), default=0)):
            at = [walk for walk in walks if walk.due(ordinal, names)]
            if not at:
                continue
            for walk in at:
                walk.advance(ordinal)
            states = scorer.embed([walk.state for walk in at])
            scored = scorer.score(states, [walk.stay.snapshots[ordinal] for walk in at])
            for walk, state, one in zip(at, states, scored, strict=True):
                walk.state = state
                walk.keep(ordinal, one, names)
        for walk in walks:
            for name in _KEPT:
                rows[name] += walk.rows[name]
        if done // 1000 > (done - len(chunk)) // 1000:
            report(f"{done} stays scored")
    shape = (-1, len(names))
    labels = np.array(rows["labels"], np.float32).reshape(shape)
    hour, source = np.array(rows["hour"], np.int64), np.array(rows["source"], str)
    for one in np.unique(source):
        early = (source == one) & (hour < hour[source == one].max())
        labels[early[:, None] & np.array(rows["standing"], bool).reshape(shape)] = np.nan
    return Scores(
        conditions=names,
        probability=np.array(rows["probability"], np.float32).reshape(shape),
        abstains=np.array(rows["abstains"], bool).reshape(shape),
        labels=labels,
        cluster=np.array(rows["cluster"], str),
        stay=np.array(rows["stay"], str),
        hour=hour,
        first_event=np.array(rows["first_event"], np.float32).reshape(shape),
        site=np.array(rows["site"], str),
        age=np.array(rows["age"], np.float32),
        male=np.array(rows["male"], np.float32),
        items=np.array(rows["items"], np.int64),
    )


def _counts(stay: Stay, condition: str) -> bool:
    return condition in stay.labels or condition in stay.hourly


class _Walk:
    """One stay from snapshot to snapshot."""

    def __init__(self, stay: Stay, predictor: Predictor) -> None:
        self.stay = stay
        self.state = PatientState(stay.patient)
        self.rows: dict[str, list] = {name: [] for name in _KEPT}
        self._predictor = predictor
        self._events = self._pictures = 0

    def due(self, ordinal: int, names: Sequence[str]) -> bool:
        last = len(self.stay.snapshots) - 1
        return ordinal == last or (ordinal < last and any(name in self.stay.hourly for name in names))

    def advance(self, ordinal: int) -> None:
        """Everything that was known at the snapshot, and nothing later."""
        now = self.stay.snapshots[ordinal]
        events, pictures = self.stay.events, self.stay.pictures
        while self._events < len(events) and events[self._events].recorded_ms <= now:
            self.state = apply(self.state, events[self._events])
            self._events += 1
        scans = dict(self.state.scans)
        while self._pictures < len(pictures) and pictures[self._pictures].time_ms <= now:
            scans[f"p{self._pictures}"] = self._scan(self._pictures)
            self._pictures += 1
        if len(scans) > len(self.state.scans):
            self.state = replace(self.state, scans=scans)

    def _scan(self, number: int) -> ScanEntry:
        picture = self.stay.pictures[number]
        vector = self._predictor.encode_scans(picture.pixels[None], [picture.kind])[0].astype("<f4").tobytes()
        return ScanEntry(
            series_uid=f"s{number}",
            time_ms=picture.time_ms,
            version=(0, picture.time_ms, 0),
            modality=picture.kind,
            content_sha256=hashlib.sha256(picture.pixels.tobytes()).hexdigest(),
            encoder=self._predictor.card.encoder_hashes["scans"],
            embedding=base64.b64encode(vector).decode(),
        )

    def keep(self, ordinal: int, scored: Scored, names: Sequence[str]) -> None:
        last = ordinal == len(self.stay.snapshots) - 1
        latest = self.state.observations.latest()
        told = self.rows
        told["probability"].append(scored.probability)
        told["abstains"].append(scored.abstains)
        told["labels"].append([self._label(name, ordinal, last) for name in names])
        told["standing"].append([name not in self.stay.hourly for name in names])
        told["hour"].append(ordinal)
        told["first_event"].append([self.stay.first_event(name) for name in names])
        told["source"].append(self.stay.source)
        told["cluster"].append(self.stay.cluster)
        told["stay"].append(self.stay.patient)
        told["site"].append(self.stay.site)
        told["age"].append(latest[_AGE][1] if _AGE in latest else np.nan)
        told["male"].append(latest[_MALE][1] if _MALE in latest else np.nan)
        told["items"].append(sum(use.items for use in scored.uses.values()))

    def _label(self, name: str, ordinal: int, last: bool) -> float:
        if name in self.stay.hourly:
            return self.stay.hourly[name][ordinal]
        return self.stay.labels.get(name, np.nan) if last else np.nan


def _chunks(stays: Iterable[Stay], size: int) -> Iterator[Sequence[Stay]]:
    chunk: list[Stay] = []
    for stay in stays:
        chunk.append(stay)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
