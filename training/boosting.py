"""Gradient boosting (scikit-learn) as the trees that the vitals encoder holds: fits them, and writes a fit into tensors."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import Tensor

from models.trees import DEPTH, NEVER, NODES, BoostedTrees
from training.hand import telling

Rows = NDArray[np.int64]


def fit_trees(
    trees: BoostedTrees, place: int, features: NDArray[np.floating], taught: NDArray[np.floating], seeds: Sequence[int]
) -> None:
    """The mean log odds of one fit a seed, each with its share of the trees and its own choice of features at splits.

    taught: [rows] in [0, 1]; what lies between is the share of the fits that learn 1, by turns from row to row.
    """
    common = telling(features)
    turn = np.cumsum((taught > 0) & (taught < 1))
    for number, seed in enumerate(seeds):
        label = (turn + number) % len(seeds) + 0.5 < taught * len(seeds)
        fitted = HistGradientBoostingClassifier(
            learning_rate=0.07,
            max_iter=trees.threshold.shape[1] // len(seeds),
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
