import numpy as np
import pytest

from models.conditions import NAMES
from models.window import SLOTS
from streaming.clock import HOUR_MS
from training.cohort import folds, patient_folds, split, strata
from training.dataset import build
from training.metrics import tasks
from training.sources import FOLDERS, READERS
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


def _patients():
    """300 rows of 100 patients of two sources, every fifth patient with the condition at one of its rows."""
    group = np.array([f"p{i // 3:03d}" for i in range(300)])
    source = np.where(np.arange(300) < 210, "a", "b")
    labels = np.where((np.arange(300) // 3 % 5 == 0) & (np.arange(300) % 3 == 1), 1.0, 0.0)[:, None]
    labels = np.concatenate([labels, np.full((300, 1), np.nan)], 1)
    return group, source, labels, strata(group, source, labels)


def test_nobody_is_on_two_sides_of_a_split():
    group, _, _, stratum = _patients()
    parts = [set(group[rows]) for rows in split(group, stratum, 0.7, 0.15, seed=1)]
    assert sum(map(len, parts)) == len(set(group))


def test_a_stratum_is_a_source_and_what_its_patients_ever_had():
    group, source, labels, stratum = _patients()
    assert len(set(stratum)) == 4
    for one in set(group):
        mine = group == one
        alike = stratum == stratum[mine][0]
        assert set(source[alike]) == set(source[mine])
        assert {labels[group == other, 0].max() for other in set(group[alike])} == {labels[mine, 0].max()}


@pytest.mark.parametrize("seed", range(5))
def test_every_part_has_its_share_of_each_sources_outcomes(seed):
    group, source, labels, stratum = _patients()
    tests = [test for _, test in folds(group, stratum, 5, seed)]
    for parts, shares in ((tests, [0.2] * 5), (split(group, stratum, 0.7, 0.15, seed), (0.7, 0.15, 0.15))):
        for rows, share in zip(parts, shares, strict=True):
            for one, patients, ill in (("a", 70, 14), ("b", 30, 6)):
                mine = rows[source[rows] == one]
                assert abs(len(set(group[mine])) - share * patients) <= 2
                assert abs(labels[mine, 0].sum() - share * ill) <= 1


def test_folds_of_some_rows_patients_leave_out_all_others():
    group, _, _, stratum = _patients()
    found = patient_folds(group, stratum, np.arange(1, 150, 3), 5, seed=3)
    assert (found[150:] == -1).all() and set(found[:150]) == set(range(5))
    assert all(len(set(found[group == one])) == 1 for one in set(group))
    assert not np.array_equal(found, patient_folds(group, stratum, np.arange(1, 150, 3), 5, seed=4))


def test_every_patient_is_in_exactly_one_fold():
    group, _, _, stratum = _patients()
    found = folds(group, stratum, 5, seed=1)
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


def test_the_hour_is_the_stays_own_also_where_hours_before_the_first_measurement_have_no_row():
    def stay(name, labels):
        events = [vitals_event(name, 0, EPOCH_MS + 2 * HOUR_MS, [("8867-4", 80.0, "/min")])]
        snapshots = [EPOCH_MS + hour * HOUR_MS for hour in range(5)]
        return Stay(name, name, "test", events, {}, snapshots, hourly={"sepsis-6h": labels})

    examples = build([stay("septic", [0.0, 1.0, 1.0, 1.0, 1.0]), stay("not", [0.0] * 5)])
    assert examples.snapshot.tolist() == [2, 3, 4] * 2
    column = NAMES.index("sepsis-6h")
    np.testing.assert_array_equal(examples.first_event[:, column], [1, 1, 1, np.nan, np.nan, np.nan])
    assert np.isnan(np.delete(examples.first_event, column, axis=1)).all()


def test_an_hourly_condition_counts_at_every_hour_and_any_other_once_a_stay():
    events = [vitals_event("s", 0, EPOCH_MS, [("8867-4", 80.0, "/min")])]
    snapshots = [EPOCH_MS + hour * HOUR_MS for hour in range(3)]
    labels, hourly = {"in-hospital-mortality": 1.0}, {"sepsis-6h": [0.0, 1.0, np.nan]}
    examples = build([Stay("s", "s", "test", events, labels, snapshots, hourly=hourly)])
    counted = {task: take.tolist() for task, _, take in tasks(examples, np.arange(3))}
    assert counted == {"test.in-hospital-mortality": [2], "test.sepsis-6h": [0, 1]}
