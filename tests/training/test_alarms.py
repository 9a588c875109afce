"""The 2019 utility and alarms against cases worked out by hand from the challenge's definition."""

import numpy as np
import pytest

from training.alarms import bedside, hours, utility, utility_of_calls, utility_threshold
from training.bootstrap import resample


def _stay(name, length, label_from=None):
    label = np.zeros(length)
    if label_from is not None:
        label[label_from:] = 1
    return np.full(length, name), label


def _together(*stays):
    """The stays' names and hours, none of them missing."""
    names, found, firsts = [], [], []
    for name, label in stays:
        names.append(name), found.append(np.arange(len(label)))
        firsts.append(np.full(len(label), np.argmax(label) if label.any() else np.nan))
    name = np.concatenate(names)
    return name, hours(name, np.concatenate(found), np.concatenate(firsts))


def _utility(stays, called):
    name, found = _together(*stays)
    return utility(found, np.asarray(called, bool), resample(name, 3))[0]


def test_utility_of_each_hour_by_hand():
    # label from hour 10: onset at hour 16, so 12 h before is hour 4, the best hour 10, the last that counts 19
    called, silent = utility_of_calls(_together(_stay("a", 22, 10))[1])
    assert called[:4] == pytest.approx(-0.05)
    assert called[4:11] == pytest.approx(np.arange(7) / 6)
    assert called[10:20] == pytest.approx(1 - np.arange(10) / 9)
    assert called[20:] == pytest.approx(0)
    assert silent[:11] == pytest.approx(0)
    assert silent[10:20] == pytest.approx(-2 * np.arange(10) / 9)
    assert silent[20:] == pytest.approx(0)


def test_utility_is_nought_for_silence_and_one_for_the_best_calls():
    stays = [_stay("a", 22, 10), _stay("b", 8)]
    best = np.zeros(30, bool)
    best[4:20] = True
    assert _utility(stays, np.zeros(30)) == pytest.approx(0)
    assert _utility(stays, best) == pytest.approx(1)


def test_calling_always_by_hand():
    # a: 4 early calls cost 0.05 each, gains 0+1/6+..+1 = 3.5 and 8/9+..+0 = 4; b: 8 calls cost 0.05 each
    observed = -4 * 0.05 + 3.5 + 4 - 8 * 0.05
    silence = -2 * sum(range(10)) / 9
    best = 3.5 + 4
    assert _utility([_stay("a", 22, 10), _stay("b", 8)], np.ones(30)) == pytest.approx(
        (observed - silence) / (best - silence)
    )


def test_a_stay_that_ends_before_its_onset_counts_what_was_there():
    # label from hour 2, five hours long: hours 2..4 are the best hour and the two after it
    assert _utility([_stay("a", 5, 2)], [0, 0, 1, 1, 1]) == pytest.approx(20 / 29)  # (10/3) / (29/6)
    called, silent = utility_of_calls(_together(_stay("a", 5, 2))[1])
    assert called.tolist() == pytest.approx([4 / 6, 5 / 6, 1, 8 / 9, 7 / 9])
    assert silent.tolist() == pytest.approx([0, 0, 0, -2 / 9, -4 / 9])


def test_the_threshold_of_largest_utility_calls_the_septic_stay():
    _, found = _together(_stay("a", 22, 10), _stay("b", 8))
    told = np.where(np.arange(30) < 4, 0.1, 0.9)
    told[22:] = 0.2
    assert utility_threshold(found, told, np.arange(30)) == 0.9


def test_alerts_lead_time_and_recall_by_hand():
    # two like folds: septic stay called from hour 7 (onset 16: 9 h ahead), other stay called twice for an hour
    made, told, fold = [], [], []
    for number in range(2):
        made += [_stay(f"a{number}", 24, 10), _stay(f"b{number}", 24)]
        score = np.zeros(48)
        score[7:] = 0.6
        score[24:] = 0.1
        score[[26, 30]] = 0.7
        told.append(score), fold.append(np.full(48, number))
    name, found = _together(*made)
    found = bedside(found, np.concatenate(told), np.concatenate(fold), resample(name, 50))
    assert found["recall_of_stays"]["value"] == 1
    assert found["alerts_per_patient_day"]["value"] == pytest.approx(3 / 2)
    assert found["stays_alerted_in_vain"]["value"] == 1
    assert found["lead_time_h"]["value"] == 9
    assert found["lead_time_quartiles_h"] == [9, 9]


def test_onset_is_where_it_was_also_when_hours_before_it_are_no_rows():
    # label from hour 1, the first row is hour 3: onset at hour 7, so 4 h ahead
    found = hours(np.array(["a"] * 3), np.array([3, 4, 5]), np.full(3, 1.0))
    assert found.onset.tolist() == [4, 3, 2]


def test_a_call_after_an_hour_without_a_row_is_another_alert():
    name, hour = np.repeat([f"s{number}" for number in range(4)], 3), np.tile([0, 1, 3], 4)
    never = np.repeat([2.0, np.nan, 2.0, np.nan], 3)
    found = hours(name, hour, never)
    assert found.follows.tolist() == [False, True, False] * 4
    told, fold = np.full(12, 0.9), np.repeat([0, 0, 1, 1], 3)
    assert bedside(found, told, fold, resample(name, 5))["alerts_per_patient_day"]["value"] == 2 * 24 / 3
