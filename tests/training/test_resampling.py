import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from training.resampling import Judged, best_threshold, calls, differences, draws, summary, utility_gains


def _rows(n=400, seed=0):
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.2).astype(np.float64)
    score = np.round(np.clip(0.2 + 0.3 * label + rng.normal(0, 0.2, n), 0.01, 0.99), 2)  # with ties
    group = np.array([f"p{i // 4}" for i in range(n)])
    return Judged(label, group, np.arange(n) % 4), score


def test_the_figures_are_those_of_scikit_learn():
    judged, score = _rows()
    found = draws(judged, score, rounds=3)
    assert found["auroc"][0] == pytest.approx(roc_auc_score(judged.label, score))
    assert found["auprc"][0] == pytest.approx(average_precision_score(judged.label, score))
    assert found["brier"][0] == pytest.approx(np.mean((score - judged.label) ** 2))


def test_a_draw_is_the_figure_of_the_rows_drawn_again():
    judged, score = _rows()
    *_, weight = judged.weights(rounds=5, seed=3)
    again = np.repeat(np.arange(len(score)), weight.astype(int))
    found = draws(judged, score, rounds=5, seed=3)
    assert found["auroc"][5] == pytest.approx(roc_auc_score(judged.label[again], score[again]))
    assert found["auprc"][5] == pytest.approx(average_precision_score(judged.label[again], score[again]))


def test_score_1_is_the_lesser_of_precision_and_recall():
    judged, score = _rows()
    called = score >= 0.5
    hit = (called & (judged.label == 1)).sum()
    found = draws(judged, score, called, rounds=2)
    assert found["score1"][0] == pytest.approx(min(hit / called.sum(), hit / judged.label.sum()))


def test_a_score_beats_itself_by_nothing():
    judged, score = _rows()
    found = draws(judged, score, rounds=20)
    assert differences(found, found)["auroc"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    told = summary(found, judged)
    assert told["auroc"]["low"] <= told["auroc"]["value"] <= told["auroc"]["high"]
    assert told["n"] == 400 and told["patients"] == 100


def _challenge_utility(labels, predictions):
    """The sum over one patient's hours, written hour by hour from the challenge's text."""
    septic = any(labels)
    onset = labels.index(1) + 6 if septic else None
    total = 0.0
    for hour, called in enumerate(predictions):
        if not septic:
            total += -0.05 if called else 0.0
            continue
        since = hour - onset
        if since > 3:
            continue
        if called:
            total += max((since + 12) / 6, -0.05) if since <= -6 else (3 - since) / 9
        elif since > -6:
            total += -2 * (since + 6) / 9
    return total


def test_utility_is_the_challenges():
    rng = np.random.default_rng(1)
    for onset in (None, 0, 3, 20):
        labels = [int(onset is not None and hour >= onset) for hour in range(36)]
        called = rng.random(36) < 0.4
        judged = Judged(np.array(labels, float), np.full(36, "p"), np.arange(36))
        observed, best, nothing = (one.sum() for one in utility_gains(judged, called))
        assert observed == pytest.approx(_challenge_utility(labels, called.tolist()))
        assert nothing == pytest.approx(_challenge_utility(labels, [False] * 36))
        assert best >= observed - 1e-9


def test_utility_of_the_best_calls_is_one_and_of_none_is_nought():
    labels = np.array([0.0] * 10 + [1.0] * 10 + [0.0] * 20)
    judged = Judged(labels, np.array(["a"] * 20 + ["b"] * 20), np.tile(np.arange(20), 2))
    ideal = (labels == 1) & (judged.hour < 20)
    found = draws(judged, labels * 0.9 + 0.01, utility_called=np.zeros(40, bool), rounds=1)
    assert found["utility"][0] == 0
    observed, best, _ = utility_gains(judged, ideal)
    assert observed.sum() <= best.sum()


def test_a_folds_threshold_is_chosen_on_the_other_folds():
    judged, score = _rows()
    fold = (np.arange(len(score)) // 4) % 2
    called = calls(score, fold, judged, "score1")
    rest = Judged(judged.label[fold == 1], judged.group[fold == 1], judged.hour[fold == 1])
    np.testing.assert_array_equal(
        called[fold == 0], score[fold == 0] >= best_threshold(score[fold == 1], rest, "score1")
    )


def test_points_of_a_rule_are_ranked_but_not_judged_as_probabilities():
    judged, score = _rows()
    found = draws(judged, np.round(score * 10), rounds=2)
    assert "auroc" in found
    assert not {"brier", "ece"} & set(found)
