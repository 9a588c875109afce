import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

from models.conditions import NAMES
from models.trees import DEPTH, BoostedTrees
from tests.training.stays import HOURS, stays
from training import boosting
from training.boosting import compile_trees, fit_boosting
from training.dataset import build
from training.hand import hand_features
from training.loop import predict, train
from training.recipes import Recipe

CONDITIONS = ("in-hospital-mortality", "sepsis-6h")


@pytest.fixture(scope="module")
def examples():
    return build(stays())


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(boosting, "FEWEST", 10)


def _tensors(features):
    return torch.from_numpy(np.nan_to_num(features)), torch.from_numpy(np.isfinite(features).astype(np.float32))


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
    odds = trees(*_tensors(features)).numpy()
    assert not odds[:, 0].any()
    np.testing.assert_allclose(
        1 / (1 + np.exp(-odds[:, 1])), fitted.predict_proba(features[:, common])[:, 1], atol=1e-5
    )


def test_a_patient_is_told_of_by_trees_that_never_saw_it(examples, few):
    rows = np.arange(len(examples.labels))
    told = fit_boosting(BoostedTrees(2, 15), CONDITIONS, examples, rows, 0, lambda line: None)
    spoilt = build(stays())
    mine = told.fold == 0
    spoilt.labels[mine] = 1 - spoilt.labels[mine]
    again = fit_boosting(BoostedTrees(2, 15), CONDITIONS, spoilt, rows, 0, lambda line: None)
    asked = _tensors(hand_features(examples, np.flatnonzero(mine)))
    assert torch.equal(told.trees[0](*asked), again.trees[0](*asked))
    assert not torch.equal(told.trees[1](*asked), again.trees[1](*asked))
    patients = [set(examples.group[told.fold == number]) for number in range(boosting.FOLDS)]
    assert not patients[0] & patients[1] and sum(map(len, patients)) == 60


def test_without_enough_labels_trees_say_nothing(examples):
    trees = BoostedTrees(2, 15)
    fit_boosting(trees, CONDITIONS, examples, np.arange(40), 0, lambda line: None)
    assert not trees(*_tensors(hand_features(examples, np.arange(4)))).any()


def test_a_run_with_trees_learns(examples, few):
    recipe = Recipe("trees", epochs=2, bootstraps=1, width=16, boosted=CONDITIONS, trees=30, other_hours=1.0)
    patient = np.arange(len(examples.labels)) // HOURS
    sides = [np.flatnonzero((patient >= low) & (patient < high)) for low, high in ((0, 36), (36, 48), (48, 60))]
    lines = []
    told = predict(train(examples, *sides[:2], recipe, lines.append), examples, sides[2])
    assert "trees of sepsis-6h: 144 rows" in lines
    sick = examples.labels[sides[2], NAMES.index("sepsis-6h")] == 1
    assert told[sick, 1].mean() > told[~sick, 1].mean()
