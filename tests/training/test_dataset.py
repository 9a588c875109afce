import numpy as np

from models.conditions import NAMES
from models.window import SLOTS
from streaming.clock import HOUR_MS
from training.cohort import folds, split
from training.dataset import build
from training.metrics import tasks
from training.sources import FOLDERS, READERS
from training.sources.covid import mask_leaks
from training.stays import EPOCH_MS, Stay, note_event, vitals_event

CONDITIONS = ("in-hospital-mortality", "critical-course")


def _stay(events):
    return Stay("s", "s", "test", events, {"in-hospital-mortality": 1.0}, [EPOCH_MS + 6 * HOUR_MS])


def test_no_feature_sees_the_future():
    past = [vitals_event("s", 0, EPOCH_MS + HOUR_MS, [("8867-4", 80.0, "/min")])]
    future = [
        vitals_event("s", 1, EPOCH_MS + 7 * HOUR_MS, [("8867-4", 190.0, "/min")]),
        note_event("s", 0, EPOCH_MS + 8 * HOUR_MS, "died"),
    ]
    with_future, without = build([_stay(past + future)], CONDITIONS), build([_stay(past)], CONDITIONS)
    for name in ("values", "mask", "summary", "present", "age_h"):
        np.testing.assert_array_equal(getattr(with_future, name), getattr(without, name))
    assert with_future.texts == []


def test_real_stays_come_through_the_live_reducer(data_root):
    stays = []
    for name in ("physionet2012", "eicu"):
        for number, stay in enumerate(READERS[name](data_root / FOLDERS[name])):
            stays.append(stay)
            if number == 20:
                break
    examples = build(stays, CONDITIONS)
    assert len(examples.labels) > 50
    assert examples.present[:, SLOTS.index("notes")].any()
    assert np.isfinite(examples.values).all()


def test_nobody_is_on_two_sides_of_a_split():
    group = np.array([f"p{i // 3}" for i in range(300)])
    parts = [set(group[rows]) for rows in split(group, 0.7, 0.15, seed=1)]
    assert sum(map(len, parts)) == len(set(group))


def test_words_that_give_the_outcome_away_are_masked():
    masked = mask_leaks("Intubated on day 2, transferred to the ICU, later died. Ventilation needed.")
    assert not {"intubated", "icu", "died", "ventilation"} & set(masked.lower().replace(".", "").split())


def test_every_patient_is_in_exactly_one_fold():
    group = np.array([f"p{i // 3}" for i in range(300)])
    found = folds(group, 5, seed=1)
    assert sorted(np.concatenate([test for _, test in found])) == list(range(300))
    for rest, test in found:
        assert not set(group[rest]) & set(group[test])


def test_a_label_that_changes_by_the_hour_is_the_snapshots_own():
    events = [vitals_event("s", 0, EPOCH_MS, [("8867-4", 80.0, "/min")])]
    snapshots = [EPOCH_MS + hour * HOUR_MS for hour in range(3)]
    stay = Stay("s", "s", "test", events, {}, snapshots, hourly={"sepsis-6h": [0.0, 1.0, np.nan]})
    examples = build([stay])
    np.testing.assert_array_equal(examples.labels[:, NAMES.index("sepsis-6h")], [0, 1, np.nan])
    assert np.isnan(examples.labels[:, NAMES.index("in-hospital-mortality")]).all()


def test_an_hourly_condition_counts_at_every_hour_and_any_other_once_a_stay():
    events = [vitals_event("s", 0, EPOCH_MS, [("8867-4", 80.0, "/min")])]
    snapshots = [EPOCH_MS + hour * HOUR_MS for hour in range(3)]
    labels, hourly = {"in-hospital-mortality": 1.0}, {"sepsis-6h": [0.0, 1.0, np.nan]}
    examples = build([Stay("s", "s", "test", events, labels, snapshots, hourly=hourly)])
    counted = {task: take.tolist() for task, _, take in tasks(examples, np.arange(3))}
    assert counted == {"test.in-hospital-mortality": [2], "test.sepsis-6h": [0, 1]}
