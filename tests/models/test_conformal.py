import numpy as np
import pytest

from models.conformal import Conformal, abstains, fit


def _patients(rng, count, rate=0.15):
    """Calibrated probabilities and outcomes, one row a patient."""
    label = (rng.random(count) < rate).astype(float)
    logit = rng.normal(0, 1, count) + 1.6 * label - 2.5
    return 1 / (1 + np.exp(-logit)), label


def test_each_class_is_covered_at_the_level_in_the_mean_over_draws():
    rng = np.random.default_rng(0)
    held = np.zeros(2)
    for _ in range(200):
        p, y = _patients(rng, 400)
        sets = fit(p[:300, None], y[:300, None], np.arange(300).astype(str), 0.8)
        contains = sets.contains(p[300:, None])[:, 0]
        held += [contains[y[300:] == outcome, outcome].mean() for outcome in (0, 1)]
    assert (held / 200 > 0.79).all()
    assert (held / 200 < 0.86).all()  # as sharp as the promise lets it be


def test_a_patient_with_many_hours_counts_once():
    p = np.array([0.1, 0.2, 0.3, *[0.9] * 1000])[:, None]
    group = np.array(["a", "b", "c", *["d"] * 1000])
    sets = fit(p, np.zeros_like(p), group, 0.6)
    assert sets.no_event_to[0] == 0.3  # third of four patients


def test_a_class_too_small_for_the_level_is_never_ruled_out():
    p = np.array([0.2, 0.3, 0.9])[:, None]
    label = np.array([0.0, 0.0, 1.0])[:, None]
    sets = fit(p, label, np.array(["a", "b", "c"]), 0.8)
    assert sets.contains(np.array([[0.0], [1.0]])).all()
    assert abstains(sets.contains(np.array([[0.5]]))).all()


def test_it_abstains_on_both_and_on_neither_outcome_and_stores_as_json():
    sets = Conformal.from_json(Conformal(0.8, np.array([0.4, 0.1]), np.array([0.2, 0.3])).to_json())
    contains = sets.contains(np.array([[0.3, 0.2], [0.1, 0.05], [0.5, 0.35]]))
    assert abstains(contains).tolist() == [[True, True], [False, False], [False, False]]
    assert contains[0].tolist() == [[True, True], [False, False]]


def test_unknown_labels_are_left_out():
    p, y = np.linspace(0, 1, 20)[:, None], np.full((20, 1), np.nan)
    assert fit(p, y, np.arange(20).astype(str)).contains(p).all()


@pytest.mark.parametrize("level", [0, 1, 1.5])
def test_a_level_that_is_no_share_is_refused(level):
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit(np.zeros((1, 1)), np.zeros((1, 1)), np.array(["a"]), level)
