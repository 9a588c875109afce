from itertools import islice

import numpy as np
import pytest

from models.conditions import NAMES
from models.window import MODALITIES
from streaming.clock import HOUR_MS
from training import robustness
from training.bootstrap import FEW, TOO_FEW
from training.dataset import build
from training.scores import score
from training.sources import FOLDERS, READERS
from training.stays import EPOCH_MS, Picture, Stay, note_event, vitals_event

TEXT = "Admitted with septic shock and pneumonia. Lactate rising, on pressors overnight."


@pytest.fixture
def stay():
    events = [vitals_event("s", 0, EPOCH_MS, [("30525-0", 70.0, "a"), ("8867-4", 80.0, "/min")])]
    events += [vitals_event("s", n, EPOCH_MS + n * HOUR_MS, [("8867-4", 80.0 + n, "/min")]) for n in range(1, 40)]
    events += [note_event("s", n, EPOCH_MS + 40 * HOUR_MS + n, TEXT) for n in range(3)]
    pixels = np.random.default_rng(0).random((224, 224)).astype(np.float32)
    return Stay(
        "s", "s", "test", events, {"in-hospital-mortality": 1.0}, [EPOCH_MS + 48 * HOUR_MS],
        pictures=[Picture(EPOCH_MS, pixels, "CR")], hourly={},
    )  # fmt: skip


def _one(stay, damage):
    return next(iter(robustness.damaged([stay], damage)))


def test_a_subset_holds_only_its_modalities(stay):
    for name in MODALITIES:
        kept = _one(stay, robustness.only(name))
        assert {event.kind for event in kept.events} <= {name}
        assert bool(kept.pictures) == (name == "scans")


def test_missing_observations_leave_static_facts_and_about_the_share(stay):
    kept = _one(stay, robustness.fewer("vitals", 0.5))
    measured = [e for e in kept.events if e.kind == "vitals"]
    assert 8 < len(measured) < 32
    assert any(item.value == 70.0 for item in measured[0].data.items)


def test_damage_is_the_same_in_every_run_and_for_any_company(stay):
    from dataclasses import replace

    other = replace(stay, patient="other")
    alone = _one(stay, robustness.fewer("vitals", 0.3))
    among = list(robustness.damaged([other, stay], robustness.fewer("vitals", 0.3)))[1]
    assert alone.events == among.events


def test_words_are_misspelt_cut_short_or_masked(stay):
    def text(damage):
        return next(e.data.text for e in _one(stay, damage).events if e.kind == "notes")

    assert text(robustness.misspelt(0.0)) == TEXT
    assert text(robustness.misspelt(1.0)) != TEXT
    assert len(text(robustness.misspelt(1.0)).split()) == len(TEXT.split())
    assert text(robustness.truncated(0.5)) == TEXT[: len(TEXT) // 2]
    masked = text(robustness.without_diagnoses()).lower()
    assert "septic" not in masked and "pneumonia" not in masked and "lactate" in masked


def test_pictures_are_blurred_shrunk_and_made_noisy(stay):
    sharp = stay.pictures[0].pixels
    for damage in (robustness.blurred(4), robustness.low_resolution(28)):
        assert _one(stay, damage).pictures[0].pixels.std() < sharp.std() / 2
    noisy = _one(stay, robustness.noisy(0.4)).pictures[0].pixels
    assert noisy.min() >= 0 and noisy.max() <= 1 and np.abs(noisy - sharp).mean() > 0.1


def test_every_subset_rate_and_noise_has_a_name():
    names = robustness.damages(MODALITIES)
    assert sum(name.startswith("only/") for name in names) == 6
    assert {f"missing/{m}/0.9" for m in MODALITIES} <= set(names)
    assert {
        "scans/blur/4",
        "scans/noise/0.2",
        "scans/resolution/28",
        "notes/typos/0.1",
        "notes/diagnoses/masked",
    } <= set(names)


def test_curves_through_the_live_scorer_say_what_changed(predictor, data_root):
    stays = list(islice(READERS["eicu"](data_root / FOLDERS["eicu"]), 80))
    wanted = {"only/notes", "missing/vitals/0.9"}
    modalities = robustness.modalities_of(stays)
    parts = [
        robustness.ask(predictor, part, modalities, lambda _: None, wanted.__contains__)
        for part in (stays[:30], stays[30:])
    ]
    found = robustness.curves([robustness.asked_of(part.arrays()) for part in parts])
    mortality = found["in-hospital-mortality"]
    assert set(mortality) == {"none", *wanted}
    assert "change" not in mortality["none"]
    assert mortality["only/notes"]["rarer"] < FEW
    assert mortality["only/notes"]["change"]["auroc"]["verdict"] == TOO_FEW
    assert mortality["only/notes"]["n"] == mortality["none"]["n"]


def test_hours_before_anything_is_known_do_not_count_whatever_the_damage(predictor):
    def stay(name, first):
        events = [
            vitals_event(name, n, EPOCH_MS + n * HOUR_MS, [("8867-4", 80.0 + n, "/min")]) for n in range(first, 5)
        ]
        snapshots = [EPOCH_MS + n * HOUR_MS for n in range(5)]
        return Stay(name, name, "test", events, {}, snapshots, hourly={"sepsis-6h": [0.0, 0.0, 0.0, 1.0, 1.0]})

    stays = [stay("s", 0), stay("t", 2)]
    asked = robustness.ask(predictor, stays, ("vitals",), lambda _: None, {"missing/vitals/0.9"}.__contains__)
    built = build(stays)
    assert asked.cluster.tolist() == built.cluster.tolist() == ["s"] * 5 + ["t"] * 3
    assert len(asked.probability["missing/vitals/0.9"]) == 8
    scores = score(predictor, stays)
    known = scores.items > 0
    assert scores.hour[known].tolist() == built.snapshot.tolist() and len(scores.hour) == 10
    column = scores.conditions.index("sepsis-6h")
    assert (
        scores.first_event[known, column].tolist() == built.first_event[:, NAMES.index("sepsis-6h")].tolist() == [3] * 8
    )


def test_hourly_conditions_are_scored_at_every_snapshot_and_others_at_the_last(predictor):
    def events(name, count):
        return [vitals_event(name, n, EPOCH_MS + n * HOUR_MS, [("8867-4", 80.0 + n, "/min")]) for n in range(count)]

    snapshots = [EPOCH_MS + n * HOUR_MS for n in range(5)]
    hourly = {"critical-course": [0.0, 0.0, 1.0, 1.0, np.nan]}
    whole = Stay("s", "s", "test", events("s", 5), {"in-hospital-mortality": 1.0}, snapshots, hourly=hourly)
    short = Stay("t", "t", "test", events("t", 2), {"in-hospital-mortality": 0.0}, snapshots[:2])
    scores = score(predictor, [whole, short])
    assert scores.rows("critical-course").tolist() == [0, 1, 2, 3]
    assert scores.rows("in-hospital-mortality").tolist() == [4]  # the short stay ended before the last hour
    assert len(set(scores.probability[:5, 0].tolist())) == 5
