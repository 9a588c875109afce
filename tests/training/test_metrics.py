import time

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from training.bootstrap import FEW, TOO_FEW, Resample, figure, rarer, resample, verdict
from training.metrics import at_threshold, calibration, ece, evaluate, ranked
from training.thresholds import best, f1, for_recall, nested, score1


def _scores(rng, count=400, digits=2):
    label = (rng.random(count) < 0.3).astype(float)
    return label, np.round(np.clip(rng.normal(0.3 + 0.2 * label, 0.2), 0, 1), digits)


def test_every_draw_equals_scikit_learns_weighted_figure_ties_included():
    rng = np.random.default_rng(0)
    label, told = _scores(rng)
    group = (np.arange(400) // 4).astype(str)
    sample = resample(group, rounds=20)
    draws = ranked(label, told, sample)
    for row, counts in enumerate(sample.counts):
        weight = counts[sample.patient].astype(float)
        assert draws["auroc"][row] == pytest.approx(roc_auc_score(label, told, sample_weight=weight))
        assert draws["auprc"][row] == pytest.approx(average_precision_score(label, told, sample_weight=weight))
        assert draws["brier"][row] == pytest.approx(brier_score_loss(label, told, sample_weight=weight))


def test_calibration_error_is_the_mean_gap_of_ten_equal_bins():
    rng = np.random.default_rng(1)
    label, told = _scores(rng, digits=12)
    parts = np.array_split(np.argsort(told), 10)
    assert ece(label, told) == pytest.approx(np.mean([abs(label[p].mean() - told[p].mean()) for p in parts]))


def test_a_perfect_and_a_useless_score():
    rng = np.random.default_rng(0)
    label = (rng.random(500) < 0.3).astype(float)
    assert evaluate(label, label * 0.98 + 0.01)["auroc"]["value"] == 1.0
    useless = evaluate(label, rng.random(500))
    assert useless["auroc"]["low"] < 0.5 < useless["auroc"]["high"]


def test_one_patients_hours_count_together_so_the_interval_is_wider():
    rng = np.random.default_rng(2)
    label, told = _scores(rng, 60, 6)
    many = np.repeat(np.arange(60), 50).astype(str)
    label, told = np.repeat(label, 50), np.repeat(told, 50)
    by_row, by_patient = (evaluate(label, told, group)["auroc"] for group in (None, many))
    assert by_row["value"] == pytest.approx(by_patient["value"])
    assert by_patient["high"] - by_patient["low"] > 4 * (by_row["high"] - by_row["low"])


def test_every_interval_holds_its_value():
    rng = np.random.default_rng(3)
    label, told = _scores(rng)
    found = evaluate(label, told, called=told >= 0.5)
    for figures in found.values():
        if isinstance(figures, dict):
            assert figures["low"] <= figures["value"] <= figures["high"]
    assert {"auroc", "auprc", "accuracy", "precision", "recall", "f1", "score1", "brier", "ece"} <= set(found)


def test_a_task_of_one_class_has_counts_only():
    assert evaluate(np.zeros(5), np.linspace(0, 1, 5)) == {"n": 5, "positives": 0}


def test_an_operating_point_by_hand():
    label, called = np.array([1, 1, 1, 0, 0, 0, 0, 1.0]), np.array([1, 1, 0, 1, 0, 0, 0, 0], bool)
    point = {k: v[0] for k, v in at_threshold(label, called, resample(np.arange(8).astype(str), 5)).items()}
    assert point == pytest.approx({"accuracy": 5 / 8, "precision": 2 / 3, "recall": 0.5, "f1": 4 / 7, "score1": 0.5})


def test_a_difference_is_paired_and_told_only_where_its_interval_excludes_zero():
    rng = np.random.default_rng(4)
    label, told = _scores(rng, 600, 6)
    sample = resample(np.arange(600).astype(str))
    better, same = ranked(label, told, sample)["auroc"], ranked(label, told * 0.5, sample)["auroc"]
    worse = ranked(label, rng.random(600), sample)["auroc"]
    assert verdict(figure(better - worse), 600) == "above"
    assert verdict(figure(worse - better), 600) == "below"
    assert verdict(figure(better - same), 600) == "not told apart"
    assert verdict(figure(better - worse), FEW - 1) == TOO_FEW


def test_the_rarer_class_is_counted_in_patients():
    label, patient = np.array([1, 0, 1, 0, 0, 0]), np.array(["a", "a", "b", "c", "d", "e"])
    assert rarer(label, patient) == 2
    assert rarer(1 - label, patient) == 1  # but b all ever have it


def test_three_hundred_thousand_hours_are_feasible():
    rng = np.random.default_rng(5)
    label, told = _scores(rng, 300_000, 6)
    group = (np.arange(300_000) // 35).astype(str)
    started = time.process_time()
    ranked(label, told, resample(group, 20))
    assert time.process_time() - started < 20


def test_calibration_bins_hold_every_row_once():
    rng = np.random.default_rng(6)
    label, told = _scores(rng)
    bins = calibration(label, told, resample(np.arange(400).astype(str), 50))
    assert sum(one["n"] for one in bins) == 400
    assert [one["told"] for one in bins] == sorted(one["told"] for one in bins)


def test_thresholds_by_hand():
    label, told = np.array([1, 0, 1, 0, 0.0]), np.array([0.9, 0.8, 0.7, 0.2, 0.1])
    assert best(label, told, f1) == 0.7
    assert best(label, told, score1) == 0.7
    assert for_recall(np.array([0.9, 0.5, 0.7, 0.1]), 0.75) == 0.5


def test_a_folds_threshold_never_sees_the_fold():
    told, fold = np.array([0.1, 0.6, 0.2, 0.9]), np.array([0, 0, 1, 1])
    seen = []

    def choose(rows):
        seen.append(set(rows.tolist()))
        return 0.5

    assert nested(told, fold, choose).tolist() == [False, True, False, True]
    assert seen == [{2, 3}, {0, 1}]
    with pytest.raises(ValueError, match="one fold"):
        nested(told, np.zeros(4), choose)


def test_draws_over_part_of_the_rows_are_the_same_draws():
    sample = resample(np.array(["a", "a", "b", "c"]), 10)
    part = sample.take(np.array([0, 3]))
    assert isinstance(part, Resample)
    np.testing.assert_array_equal(part.totals(np.ones(2)), sample.totals(np.array([1.0, 0, 0, 1])))
