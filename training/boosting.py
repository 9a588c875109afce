"""Fits the boosted trees that the vitals encoder holds, and the ones it learns with.

While the network learns, a patient's log odds come from trees that never saw the patient (one fit a fold of patients);
the trees it is served with are fitted to all training patients. None sees a patient outside the training rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import Tensor

from models.conditions import CONDITIONS, NAMES
from models.trees import DEPTH, NEVER, NODES, BoostedTrees
from training.dataset import Examples
from training.hand import RARE, hand_features
from training.peers import training_rows

Rows = NDArray[np.int64]
FOLDS = 3
BAGS = 3
"""Fits whose mean is served, each with another choice of features at its splits."""
FEWEST = 300
"""Fewer labelled rows than this make no trees."""


@dataclass(frozen=True, slots=True)
class Learning:
    """fold: [N] which of `trees` never saw the row's patient; -1: none did, the served ones will do."""

    trees: Sequence[BoostedTrees]
    fold: NDArray[np.int64]


def fit_boosting(
    served: BoostedTrees,
    conditions: Sequence[str],
    examples: Examples,
    rows: Rows,
    seed: int,
    report: Callable[[str], None],
) -> Learning:
    """Fills `served` in place from these rows."""
    names, of_row = np.unique(examples.group[rows], return_inverse=True)
    fold = np.full(len(examples.group), -1)
    fold[rows] = np.random.default_rng(seed).permutation(len(names))[of_row] % FOLDS
    inner = [BoostedTrees(*served.threshold.shape[:2]) for _ in range(FOLDS)]
    for place, condition in enumerate(conditions):
        column = NAMES.index(condition)
        learned = training_rows(examples, rows, column, seed, other_hours=1.0)
        label = examples.labels[learned, column]
        if len(learned) < FEWEST or not 0 < label.sum() < len(label):
            continue
        report(f"trees of {CONDITIONS[column].name}: {len(learned)} rows")
        features = hand_features(examples, learned)
        for number, trees in enumerate(inner):
            rest = fold[learned] != number
            _fit(trees, place, features[rest], label[rest], [seed + number])
        _fit(served, place, features, label, [seed + FOLDS + bag for bag in range(BAGS)])
    return Learning(inner, fold)


def _fit(
    trees: BoostedTrees, place: int, features: NDArray[np.floating], label: NDArray[np.floating], seeds: Sequence[int]
) -> None:
    """The mean log odds of one fit a seed, each with its share of the trees."""
    common = np.flatnonzero(np.isfinite(features).mean(0) > RARE)
    for number, seed in enumerate(seeds):
        fitted = HistGradientBoostingClassifier(
            learning_rate=0.05,
            max_iter=trees.threshold.shape[1] // BAGS,
            max_depth=DEPTH,
            max_leaf_nodes=None,
            min_samples_leaf=20,
            l2_regularization=5.0,
            max_features=0.1,
            early_stopping=False,
            random_state=seed,
        ).fit(features[:, common], label)
        compile_trees(fitted, common, trees, place, number, 1 / len(seeds))


def compile_trees(
    fitted: HistGradientBoostingClassifier,
    common: Rows,
    trees: BoostedTrees,
    place: int,
    bag: int = 0,
    weight: float = 1.0,
) -> None:
    """A fit on the features `common` into condition `place`, after those of earlier bags; its log odds times `weight`
    are added. The fit's own format is scikit-learn's."""
    feature = trees.feature.view(*trees.threshold.shape)
    trees.start[place] += weight * float(np.ravel(fitted._baseline_prediction)[0])
    first = bag * len(fitted._predictors)
    for number, (tree,) in enumerate(fitted._predictors, first):
        _place(tree.nodes, common, feature[place, number], trees, (place, number))
    trees.leaf[place, first : first + len(fitted._predictors)] *= weight


def _place(nodes: NDArray[np.void], common: Rows, feature: Tensor, trees: BoostedTrees, at: tuple[int, int]) -> None:
    """One fitted tree into a heap: below a leaf that ends early every leaf has its value."""
    waiting = [(0, 0)]
    while waiting:
        heap, node = waiting.pop()
        one = nodes[node]
        if heap >= NODES:
            trees.leaf[*at, heap - NODES] = float(one["value"])
            continue
        if one["is_leaf"]:
            feature[heap], trees.threshold[*at, heap], trees.missing_left[*at, heap] = 0, NEVER, 0.0
            waiting += [(2 * heap + 1, node), (2 * heap + 2, node)]
            continue
        feature[heap] = int(common[one["feature_idx"]])
        trees.threshold[*at, heap] = _not_above(float(one["num_threshold"]))
        trees.missing_left[*at, heap] = float(one["missing_go_to_left"])
        waiting += [(2 * heap + 1, int(one["left"])), (2 * heap + 2, int(one["right"]))]


def _not_above(threshold: float) -> float:
    """The greatest float32 that is not above it: float32 values fall on the same side as they did."""
    near = np.float32(threshold)
    return float(near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf)))
