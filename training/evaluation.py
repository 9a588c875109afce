"""An artifact over a data set's labelled stays, through the live reducer and the live scorer, as the worker serves it.

Each stay counts once per condition, at its last snapshot. Owns which stays and labels; leaves figures to `metrics.py`.
"""

import base64
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from models.predictor import Predictor
from streaming.errors import ConfigError
from streaming.history import ScanEntry
from streaming.scoring import Scorer
from streaming.state import PatientState, apply
from training.metrics import evaluate, operating_point
from training.sources import READERS
from training.stays import Stay

_ROWS = 128


def evaluate_dataset(predictor: Predictor, dataset: str, root: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """`tasks.<dataset>.<condition>.<metric>` as {"value", "low", "high"} (95 %), `n` and `positives`.

    Raises:
        ConfigError: no such data set, or nothing in the folder is labelled for a condition of this model.
    """
    if dataset not in READERS:
        raise ConfigError(f"no reader for {dataset!r}; there are {', '.join(READERS)}")
    scorer = Scorer(predictor)
    told: dict[str, list[float]] = defaultdict(list)
    labels: dict[str, list[float]] = defaultdict(list)
    done = 0
    for stays in _chunks(READERS[dataset](root), _ROWS):
        states = scorer.embed([_state(stay, predictor) for stay in stays])
        scored = scorer.score(states, [stay.snapshots[-1] for stay in stays])
        for stay, score in zip(stays, scored, strict=True):
            for row, condition in enumerate(predictor.card.conditions):
                if condition in stay.labels and any(use.items for use in score.uses.values()):
                    told[condition].append(float(score.probability[row]))
                    labels[condition].append(stay.labels[condition])
        done += len(stays)
        if done % (_ROWS * 8) < _ROWS:
            report(f"{done} stays")
    if not told:
        raise ConfigError(f"no labelled stays of {dataset} in {root.name}")
    tasks = {}
    for condition, values in told.items():
        label, probability = np.array(labels[condition]), np.array(values)
        threshold = predictor.card.thresholds[condition]["warning"]
        tasks[f"{dataset}.{condition}"] = evaluate(label, probability) | operating_point(label, probability, threshold)
    return {"dataset": dataset, "model": predictor.card.model_hash, "stays": done, "tasks": tasks}


def _chunks(stays: Iterator[Stay], size: int) -> Iterator[Sequence[Stay]]:
    chunk: list[Stay] = []
    for stay in stays:
        chunk.append(stay)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _state(stay: Stay, predictor: Predictor) -> PatientState:
    """What the worker would know at the stay's last snapshot."""
    state = PatientState(stay.patient)
    for event in stay.events:
        if event.time_ms <= stay.snapshots[-1]:
            state = apply(state, event)
    scans = {}
    for number, picture in enumerate(stay.pictures):
        if picture.time_ms > stay.snapshots[-1]:
            continue
        vector = predictor.encode_scans(picture.pixels[None], [picture.kind])[0].astype("<f4").tobytes()
        scans[f"p{number}"] = ScanEntry(
            series_uid=f"s{number}",
            time_ms=picture.time_ms,
            version=(0, picture.time_ms, 0),
            modality=picture.kind,
            content_sha256=hashlib.sha256(picture.pixels.tobytes()).hexdigest(),
            encoder=predictor.card.encoder_hashes["scans"],
            embedding=base64.b64encode(vector).decode(),
        )
    return replace(state, scans=scans) if scans else state
