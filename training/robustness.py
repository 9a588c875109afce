"""What damage to the inputs does to the scores: modalities taken away, observations lost, pictures and notes spoilt.

A damage is a stay in, a stay out; the scores go through the live reducer and scorer, so any artifact can be asked.
Every random choice comes from the seed and the stay's own name: the same in every run and for every model. Static facts
(age, sex, height, weight) are no observations: they go only when the whole modality goes.
"""

import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from models.predictor import Predictor
from models.signals import SIGNALS
from models.window import MODALITIES
from streaming.envelope import Event, Measurements
from streaming.messages import Note
from training.bootstrap import figure, rarer, resample, verdict
from training.kept import Arrays, under
from training.metrics import figures, ranked
from training.scores import Scores, score
from training.stays import Picture, Stay

Damage = Callable[[Stay, np.random.Generator], Stay]
ROUNDS = 200
"""Bootstrap draws of each damage's figures."""
RATES = tuple(round(0.1 * step, 1) for step in range(1, 10))
_PROBABILITY, _ITEMS = "probability:", "items:"
_STATIC = frozenset(row for row, signal in enumerate(SIGNALS) if signal.kind == "static")
DIAGNOSES = re.compile(
    r"\b(sepsis|septic\w*|pneumonia\w*|ards|embol\w*|infarct\w*|stroke|ha?emorrhag\w*|ischa?emi\w*|cancer|carcinoma\w*|"
    r"tumou?r\w*|malignan\w*|metasta\w*|leuka?emi\w*|lymphoma\w*|cirrhosis|hepat\w*|renal|kidney|dialysis|diabet\w*|"
    r"ketoacidosis|copd|asthma|heart failure|chf|cardiogenic|shock|cardiac arrest|fibrillation|coronary|infection\w*|"
    r"covid\w*|influenza|tubercul\w*|trauma|fracture\w*|overdose|seizure\w*|pancreatitis|meningitis|encephal\w*|coma)\b",
    re.IGNORECASE,
)
"""Words that name a diagnosis."""


def only(*kept: str) -> Damage:
    """Just these modalities."""

    def apply(stay: Stay, rng: np.random.Generator) -> Stay:
        events = [event for event in stay.events if event.kind in kept]
        return replace(stay, events=events, pictures=stay.pictures if "scans" in kept else ())

    return apply


def fewer(modality: str, rate: float) -> Damage:
    """Each observation, note or scan of the modality is missing with this probability."""

    def apply(stay: Stay, rng: np.random.Generator) -> Stay:
        if modality == "scans":
            kept = rng.random(len(stay.pictures)) >= rate
            return replace(stay, pictures=[p for p, keep in zip(stay.pictures, kept, strict=True) if keep])
        if modality == "notes":  # a document sent again is the same document: it is there or missing as a whole
            lost: dict[str, bool] = {}
            for event in stay.events:
                if isinstance(event.data, Note):
                    lost.setdefault(event.data.note_id, bool(rng.random() < rate))
            return replace(
                stay, events=[e for e in stay.events if not (isinstance(e.data, Note) and lost[e.data.note_id])]
            )
        return replace(stay, events=[e for event in stay.events for e in _thinned(event, rate, rng)])

    return apply


def _thinned(event: Event, rate: float, rng: np.random.Generator) -> Sequence[Event]:
    if not isinstance(event.data, Measurements):
        return [event]
    kept = tuple(item for item in event.data.items if item.signal in _STATIC or rng.random() >= rate)
    return [replace(event, data=replace(event.data, items=kept))] if kept else []


def pictures(change: Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]]) -> Damage:
    """Every picture's pixels [224, 224] in 0..1 changed."""

    def apply(stay: Stay, rng: np.random.Generator) -> Stay:
        return replace(stay, pictures=[Picture(p.time_ms, change(p.pixels, rng), p.kind) for p in stay.pictures])

    return apply


def blurred(radius: float) -> Damage:
    """Gaussian blur; radius in pixels."""
    return pictures(lambda pixels, rng: _filtered(pixels, lambda image: image.filter(ImageFilter.GaussianBlur(radius))))


def low_resolution(size: int) -> Damage:
    """Shrunk to size x size and back."""

    def change(image: Image.Image) -> Image.Image:
        return image.resize((size, size), Image.Resampling.BOX).resize(image.size, Image.Resampling.BILINEAR)

    return pictures(lambda pixels, rng: _filtered(pixels, change))


def noisy(deviation: float) -> Damage:
    """Gaussian noise of this standard deviation, of the range 0..1."""
    return pictures(
        lambda pixels, rng: np.clip(pixels + rng.normal(0, deviation, pixels.shape), 0, 1).astype(np.float32)
    )


def _filtered(pixels: NDArray[np.float32], change: Callable[[Image.Image], Image.Image]) -> NDArray[np.float32]:
    changed = change(Image.fromarray(np.round(pixels * 255).astype(np.uint8)))
    return np.asarray(changed, np.float32) / 255.0


def notes(change: Callable[[str, np.random.Generator], str]) -> Damage:
    """Every note's text changed; an empty one is a space, since a note without text cannot be sent."""

    def apply(stay: Stay, rng: np.random.Generator) -> Stay:
        return replace(
            stay,
            events=[
                replace(e, data=e.data.model_copy(update={"text": change(e.data.text, rng) or " "}))
                if isinstance(e.data, Note)
                else e
                for e in stay.events
            ],
        )

    return apply


def truncated(share: float) -> Damage:
    """Only the first part of each note."""
    return notes(lambda text, rng: text[: max(1, round(len(text) * share))])


def misspelt(rate: float) -> Damage:
    """Each word has, with this probability, two neighbouring letters swapped, one dropped or one doubled."""

    def word(match: re.Match[str], rng: np.random.Generator) -> str:
        text = match.group()
        if rng.random() >= rate:
            return text
        at, kind = int(rng.integers(0, len(text) - 1)), int(rng.integers(0, 3))
        if kind == 0:
            return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        return text[:at] + text[at + 1 :] if kind == 1 else text[: at + 1] + text[at:]

    return notes(lambda text, rng: re.sub(r"[^\W\d_]{2,}", lambda match: word(match, rng), text))


def without_diagnoses() -> Damage:
    """Words that name a diagnosis are cut out."""
    return notes(lambda text, rng: DIAGNOSES.sub(" ", text))


def damages(modalities: Sequence[str]) -> dict[str, Damage]:
    """All that can be done to stays that have these modalities, by name `kind/part/degree`."""
    found: dict[str, Damage] = {}
    for size in range(1, len(modalities)):
        for kept in combinations(modalities, size):
            found[f"only/{'+'.join(kept)}"] = only(*kept)
    for name in modalities:
        found |= {f"missing/{name}/{rate:.1f}": fewer(name, rate) for rate in RATES}
    if "scans" in modalities:
        found |= {f"scans/blur/{radius}": blurred(radius) for radius in (1, 2, 4, 8)}
        found |= {f"scans/noise/{deviation}": noisy(deviation) for deviation in (0.05, 0.1, 0.2, 0.4)}
        found |= {f"scans/resolution/{size}": low_resolution(size) for size in (112, 56, 28, 14)}
    if "notes" in modalities:
        found |= {f"notes/kept/{share}": truncated(share) for share in (0.75, 0.5, 0.25, 0.1)}
        found |= {f"notes/typos/{rate}": misspelt(rate) for rate in (0.05, 0.1, 0.2, 0.4)}
        found["notes/diagnoses/masked"] = without_diagnoses()
    return found


def modalities_of(stays: Iterable[Stay]) -> tuple[str, ...]:
    """What some of the stays have, in the order of `MODALITIES`."""
    found: set[str] = set()
    for stay in stays:
        found |= {event.kind for event in stay.events} | ({"scans"} if stay.pictures else set())
    return tuple(name for name in MODALITIES if name in found)


def damaged(stays: Iterable[Stay], damage: Damage, seed: int = 0) -> Iterable[Stay]:
    """The stays, each damaged with random numbers of its own."""
    for stay in stays:
        yield damage(stay, np.random.default_rng([seed, zlib.crc32(stay.patient.encode())]))


@dataclass(frozen=True, slots=True)
class Asked:
    """Stays scored as they are (damage "none") and damaged; rows and their order do not depend on the damage: those at which
    something was known of the patient before it.

    labels: f32 [N, C], NaN where it does not count. cluster: [N] patients (`Stay.cluster`). By damage: probability f32
    [N, C]; items [N], what a score rests on.
    """

    conditions: tuple[str, ...]
    labels: NDArray[np.float32]
    cluster: NDArray[np.str_]
    probability: Mapping[str, NDArray[np.float32]]
    items: Mapping[str, NDArray[np.int64]]

    def arrays(self) -> Arrays:
        """As arrays by name, to be kept; `asked_of` reads them."""
        told = {f"{_PROBABILITY}{damage}": values for damage, values in self.probability.items()}
        told |= {f"{_ITEMS}{damage}": values for damage, values in self.items.items()}
        return {"conditions": np.array(self.conditions), "labels": self.labels, "cluster": self.cluster, **told}


def asked_of(arrays: Arrays) -> Asked:
    """What `Asked.arrays` gave."""
    conditions = tuple(arrays["conditions"].tolist())
    return Asked(conditions, arrays["labels"], arrays["cluster"], under(_PROBABILITY, arrays), under(_ITEMS, arrays))


def ask(
    predictor: Predictor,
    stays: Sequence[Stay],
    modalities: Sequence[str],
    report: Callable[[str], None],
    wanted: Callable[[str], bool] = lambda name: True,
) -> Asked:
    """The predictor's scores of stays that it never saw, under every wanted damage to these modalities."""
    every = damages(modalities)
    chosen = {"none": only(*MODALITIES), **{name: damage for name, damage in every.items() if wanted(name)}}
    found: dict[str, Scores] = {}
    for number, (name, damage) in enumerate(chosen.items()):
        report(f"robustness {number + 1}/{len(chosen)}: {name}")
        found[name] = score(predictor, damaged(stays, damage))
    base = found["none"]
    known = base.items > 0
    return Asked(
        conditions=base.conditions,
        labels=base.labels[known],
        cluster=base.cluster[known],
        probability={name: scores.probability[known] for name, scores in found.items()},
        items={name: scores.items[known] for name, scores in found.items()},
    )


def curves(parts: Sequence[Asked]) -> dict[str, Any]:
    """Per condition and damage: figures, and the paired change from the undamaged scores.

    parts: each fold's stays, scored by the model that did not learn from them (one part for an artifact).
    `{condition: {damage: {"n", "positives", "rarer", metric: figure, "change": {metric: figure + "verdict"}}}}`; the damage
    "none" has no change.
    """
    found: dict[str, Any] = {}
    base: dict[str, dict[str, NDArray[np.float64]]] = {}
    for name in parts[0].probability:
        for condition in parts[0].conditions:
            told = _told(parts, condition, name)
            if told is None:
                continue
            about, draws = told
            one: dict[str, Any] = about | figures(draws)
            if name == "none":
                base[condition] = draws
            else:
                change = {metric: figure(draws[metric] - base[condition][metric]) for metric in draws}
                one["change"] = {
                    metric: value | {"verdict": verdict(value, one["rarer"])} for metric, value in change.items()
                }
            found.setdefault(condition, {})[name] = one
    return found


def _told(
    parts: Sequence[Asked], condition: str, damage: str
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]] | None:
    """Draws over all folds' rows together."""
    column = parts[0].conditions.index(condition)
    label = np.concatenate([part.labels[:, column] for part in parts])
    rows = np.flatnonzero(~np.isnan(label))
    label = label[rows]
    if not 0 < label.sum() < len(label):
        return None
    probability = np.concatenate([part.probability[damage][:, column] for part in parts])[rows]
    cluster = np.concatenate([part.cluster for part in parts])[rows]
    items = np.concatenate([part.items[damage] for part in parts])[rows]
    about = {
        "n": len(label),
        "positives": int(label.sum()),
        "rarer": rarer(label, cluster),
        "without_data": int((items == 0).sum()),
    }
    return about, ranked(label, probability, resample(cluster, ROUNDS))
