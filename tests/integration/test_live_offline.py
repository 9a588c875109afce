"""Every score that the live worker published, computed again through the training reader from the same events."""

import asyncio
from collections import defaultdict

import numpy as np
import pytest

from models.window import MAX_NOTES, SLOTS
from streaming.envelope import Limits, parse_time
from streaming.messages import Risk
from streaming.records import parse_record
from streaming.verify import read_all
from training.dataset import build
from training.stays import Stay

pytestmark = pytest.mark.integration

TOLERANCE = 1e-5


def test_published_scores_equal_the_training_readers(site, data_root, predictor):
    site.start("fusion", WARDWATCH_SCORE="each")
    arguments = ["mimic3", "--root", str(data_root / "mimic3_demo"), "--limit", "1500"]
    done = site.command("replay", *arguments, "--notes", str(data_root / "eicu_demo"))
    assert done.returncode == 0, done.stderr
    found, _ = asyncio.run(read_all(site.stack.bootstrap, site.prefix))
    events = defaultdict(list)
    for kind in ("vitals", "notes"):
        for record in found[kind]:
            event = parse_record(kind, record, Limits())
            events[event.patient].append(event)
    risks = [Risk.model_validate_json(record.value) for record in found["risk"]]
    assert len(risks) > 1000
    assert any(risk.modalities["notes"].present for risk in risks)
    stays, told = [], []
    for risk in risks:
        if not any(use.present for use in risk.modalities.values()):
            continue  # rests on age or weight alone: never pages, and is no row of training
        known = [e for e in events[risk.patient] if e.offset <= risk.offsets.get(e.kind, -1)]
        known.sort(key=lambda event: event.time_ms)
        stays.append(Stay(risk.patient, risk.patient, "live", known, {}, [parse_time(risk.as_of, "as_of")]))
        told.append({one.condition: one.probability for one in risk.scores})
    examples = build(stays, predictor.card.conditions)
    assert len(examples.labels) == len(told)
    asked = [name for name in predictor.card.conditions if name != "lung-nodule"]  # no CT is among these
    assert all(list(one) == asked for one in told)
    columns = [predictor.card.conditions.index(name) for name in asked]
    published = np.array([list(one.values()) for one in told])
    worst = float(np.abs(_offline(examples, predictor)[:, columns] - published).max())
    assert worst <= TOLERANCE, worst


def _offline(examples, predictor):
    tokens = np.zeros((len(examples.labels), len(SLOTS), predictor.card.width), np.float32)
    for first in range(0, len(tokens), 256):
        rows = slice(first, first + 256)
        tokens[rows, SLOTS.index("vitals")] = predictor.encode_vitals(examples.window(rows))
    notes = predictor.encode_notes(examples.texts)
    for place in range(MAX_NOTES):
        at = examples.note_at[:, place]
        tokens[at >= 0, SLOTS.index("notes") + place] = notes[at[at >= 0]]
    return predictor.fuse(tokens, examples.present, examples.age_h).probability
