import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from models.conditions import NAMES
from models.conformal import Conformal
from training.calibrating import BELIEVED_SPREAD, NEVER, fit_calibration, kept_recall

DEATH = NAMES.index("in-hospital-mortality")


def _case(count, scale=1.0, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 2, (count, len(NAMES)))
    labels = np.full(logits.shape, np.nan)
    truth = 1 / (1 + np.exp(-(scale * logits[:, DEATH] + shift)))
    labels[:, DEATH] = rng.random(count) < truth
    return logits, labels, np.arange(count).astype(str)


def test_without_a_belief_many_patients_make_it_platt_scaling():
    logits, labels, group = _case(20_000, scale=0.5, shift=1.0)
    told = fit_calibration(logits, labels, group, 0, 0)
    fitted = LogisticRegression(C=1e6).fit(logits[:, [DEATH]], labels[:, DEATH])
    assert told.scale[0, DEATH] == pytest.approx(fitted.coef_[0, 0], abs=0.02)
    assert told.shift[0, DEATH] == pytest.approx(fitted.intercept_[0], abs=0.02)
    assert (told.scale[0, 1:] == 1).all() and (told.shift[0, 1:] == 0).all()


def test_few_patients_move_log_odds_little_and_many_as_far_as_they_must():
    believed = {"in-hospital-mortality": 0.0}
    few = fit_calibration(*_case(50, shift=-1.0), 0, 0, believed)
    many = fit_calibration(*_case(20_000, shift=-1.0), 0, 0, believed)
    assert abs(few.shift[0, DEATH]) < 2 * BELIEVED_SPREAD
    assert many.shift[0, DEATH] == pytest.approx(-1.0, abs=0.1)


def test_a_patients_many_rows_count_as_one():
    logits, labels, group = _case(50, shift=-1.0)
    believed = {"in-hospital-mortality": 0.0}
    once = fit_calibration(logits, labels, group, 0, 0, believed)
    often = fit_calibration(*(np.repeat(x, 8, axis=0) for x in (logits, labels, group)), 0, 0, believed)
    assert often.shift[0, DEATH] == pytest.approx(once.shift[0, DEATH], abs=1e-4)


def test_a_belief_may_be_shifted_as_the_rows_were_chosen():
    logits, labels, group = _case(50)
    told = fit_calibration(logits, labels, group, 0, 0, {"in-hospital-mortality": -2.3})
    assert told.shift[0, DEATH] < -1.5


def test_a_patients_many_rows_make_no_interval_narrower():
    case = _case(300)
    once = fit_calibration(*case, 60, 0).scale[1:, DEATH].std()
    often = fit_calibration(*(np.repeat(x, 8, axis=0) for x in case), 60, 0).scale[1:, DEATH].std()
    assert often == pytest.approx(once, rel=0.05)


def test_what_abstains_or_lies_below_the_threshold_is_not_recalled():
    probability, labels = np.zeros((5, len(NAMES))), np.full((5, len(NAMES)), np.nan)
    probability[:, DEATH], labels[:, DEATH] = (0.05, 0.2, 0.4, 0.6, 0.9), (1, 1, 1, 1, 0)
    sets = Conformal(
        0.8, np.where(np.arange(len(NAMES)) == DEATH, 0.5, 1.0), np.where(np.arange(len(NAMES)) == DEATH, 0.3, 0.0)
    )
    thresholds = {name: {"watch": 0.1, "critical": NEVER} for name in NAMES}
    found = kept_recall(probability, labels, thresholds, sets)
    assert found[NAMES[DEATH]] == {"watch": 0.5, "critical": 0.0}  # .05 lies below, .4 has both outcomes in its set
    assert found[NAMES[0 if DEATH else 1]] == {"watch": 0.0, "critical": 0.0}
