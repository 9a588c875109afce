import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

from models.conditions import NAMES
from models.network import Architecture, Network
from models.odds import Odds
from models.trees import DEPTH, BoostedTrees
from models.vitals import INPUTS
from tests.training.stays import HOURS, stays
from training import odds
from training.batches import Batches
from training.boosting import compile_trees, fit_trees
from training.dataset import build
from training.hand import hand_features
from training.loop import predict, train
from training.odds import SHARES, Learning, best_share, fit_additive, fit_odds, summarised
from training.recipes import Recipe
from training.scales import fit_scales

CONDITIONS = ("in-hospital-mortality", "sepsis-6h")


@pytest.fixture(scope="module")
def examples():
    return build(stays())


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(odds, "FEWEST", 10)


def test_compiled_trees_answer_as_scikit_learns_do():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(600, 9)).astype(np.float32)
    features[rng.random(features.shape) < 0.3] = np.nan
    features[:, 3] = np.round(features[:, 3])
    label = (np.nan_to_num(features[:, 0]) + np.isnan(features[:, 1]) + rng.normal(0, 0.5, 600) > 0.5).astype(float)
    common = np.array([0, 1, 3, 4, 8])
    fitted = HistGradientBoostingClassifier(max_iter=20, max_depth=DEPTH, max_leaf_nodes=None, early_stopping=False)
    fitted.fit(features[:, common], label)
    trees = BoostedTrees(2, 20)
    compile_trees(fitted, common, trees, 1)
    told = trees(torch.from_numpy(features)).numpy()
    assert not told[:, 0].any()
    np.testing.assert_allclose(
        1 / (1 + np.exp(-told[:, 1])), fitted.predict_proba(features[:, common])[:, 1], atol=1e-5
    )


def _network(examples):
    network = Network(Architecture(width=16, boosted=CONDITIONS, trees=15))
    fit_scales(network, examples, np.arange(len(examples.labels)))
    return network


def _asked(network, examples, rows):
    return tuple(
        torch.from_numpy(told) for told in (hand_features(examples, rows), summarised(network.vitals, examples, rows))
    )


def test_log_odds_are_the_mean_of_the_trees_and_scikit_learns_regression(examples):
    network, rows = _network(examples), np.arange(len(examples.labels))
    label = examples.labels[rows, NAMES.index("sepsis-6h")]
    held = Odds(2, 15, INPUTS)
    held.trees.start[1] = 0.5
    fitted = fit_additive(held, 1, summarised(network.vitals, examples, rows), label)
    features, told = _asked(network, examples, rows)
    answer = held(features, told).numpy()
    assert not answer[:, 0].any()
    np.testing.assert_allclose(answer[:, 1], (0.5 + fitted.decision_function(told.numpy())) / 2, atol=1e-5)


def test_what_is_taught_in_part_moves_both_fits_in_part(examples):
    network, column = _network(examples), NAMES.index("in-hospital-mortality")
    rows = np.arange(len(examples.labels))
    features, told = _asked(network, examples, rows)
    halfway = rows[examples.labels[:, column] == 0][::2]
    odds_of = []
    for share in (0.0, 1 / 3, 1.0):
        taught = examples.labels[:, column].copy()
        taught[halfway] = share
        held = Odds(2, 30, INPUTS)
        fit_trees(held.trees, 0, features.numpy(), taught, [1, 2, 3])
        fit_additive(held, 0, told.numpy(), taught)
        odds_of.append([float(by(x)[halfway, 0].mean()) for by, x in ((held.trees, features), (held.additive, told))])
    for none, part, whole in zip(*odds_of, strict=True):
        assert none < part < whole
        assert 1 / (1 + np.exp(-part)) < 0.5


def test_the_share_goes_to_who_knows_and_is_divided_where_both_know_something():
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 2, 4000)
    label = rng.random(4000) < 1 / (1 + np.exp(-truth))
    one, other = (truth + rng.normal(0, 1, 4000) for _ in range(2))
    assert best_share(truth, rng.normal(0, 2, 4000), label) == 0
    assert best_share(rng.normal(0, 2, 4000), truth, label) == max(SHARES)
    assert best_share(one, other, label) >= 0.3


def test_a_fitted_share_is_the_one_that_is_served(examples, few, monkeypatch):
    monkeypatch.setattr(odds, "best_share", lambda trees, regression, label: 0.2)
    network, rows = _network(examples), np.arange(len(examples.labels))
    told = fit_odds(network.vitals, CONDITIONS, examples, rows, 0, lambda line: None)
    held, asked = network.vitals.odds, _asked(network, examples, rows)
    for one in (held, *told.fits):
        torch.testing.assert_close(one(*asked), 0.8 * one.trees(asked[0]) + 0.2 * one.additive(asked[1]))


def test_a_patient_who_is_judged_is_told_of_by_the_fit_that_never_saw_it(examples):
    network = _network(examples)
    network.vitals.odds.bias += 100.0
    fits = [Odds(2, 5, INPUTS) for _ in range(2)]
    for number, one in enumerate(fits):
        one.bias += 10.0 * number
    rows = np.arange(3)
    fold = np.full(len(examples.labels), -1)
    fold[:2] = 0, 1
    learning = Learning(fits, fold, CONDITIONS)
    batches = Batches(examples, torch.zeros(0, 16), torch.zeros(0, 16), learning=learning)
    told = batches.all_logits(network, rows, unseen=True)[:, NAMES.index(CONDITIONS[0])]
    served = batches.all_logits(network, rows)[:, NAMES.index(CONDITIONS[0])]
    np.testing.assert_allclose(served - told, [50.0, 45.0, 0.0], rtol=0.05, atol=1e-3)


def test_a_patient_is_told_of_by_fits_that_never_saw_it(examples, few, monkeypatch):
    rows = np.arange(len(examples.labels))
    told = fit_odds(_network(examples).vitals, CONDITIONS, examples, rows, 0, lambda line: None)
    spoilt = build(stays())
    mine = told.fold == 0
    for known in (spoilt.labels, spoilt.taught):
        known[mine] = 1 - known[mine]
    monkeypatch.setattr(odds, "patient_folds", lambda *_: told.fold)  # folds go by labels: these shall stay
    again = fit_odds(_network(examples).vitals, CONDITIONS, spoilt, rows, 0, lambda line: None)
    first, same = told.fits[0].state_dict(), again.fits[0].state_dict()
    assert first["weight"].any() and first["trees.leaf"].any()
    fitted = first.keys() - {"share"}  # one number, from all patients
    assert all(torch.equal(first[name], same[name]) for name in fitted)
    for part in ("weight", "trees.leaf"):
        assert not torch.equal(told.fits[1].state_dict()[part], again.fits[1].state_dict()[part])
    patients = [set(examples.group[told.fold == number]) for number in range(odds.FOLDS)]
    assert not patients[0] & patients[1] and sum(map(len, patients)) == 60


def test_without_enough_labels_the_fits_say_nothing(examples):
    network = _network(examples)
    fit_odds(network.vitals, CONDITIONS, examples, np.arange(40), 0, lambda line: None)
    assert not network.vitals.odds(*_asked(network, examples, np.arange(4))).any()


def test_a_run_with_log_odds_learns(examples, few):
    """The recipe knows documents too, and there are none."""
    recipe = Recipe(
        "odds", epochs=2, bootstraps=1, width=16, boosted=CONDITIONS, linear=CONDITIONS[:1], trees=30, other_hours=1.0
    )
    patient = np.arange(len(examples.labels)) // HOURS
    sides = [np.flatnonzero((patient >= low) & (patient < high)) for low, high in ((0, 36), (36, 48), (48, 60))]
    lines = []
    told = predict(train(examples, *sides[:2], recipe, lines.append), examples, sides[2])
    assert "log odds of sepsis-6h: 192 rows" in lines
    sick = examples.labels[sides[2], NAMES.index("sepsis-6h")] == 1
    assert told[sick, 1].mean() > told[~sick, 1].mean()
