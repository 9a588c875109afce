"""Hand features of the model's own window, and the two classical fits on them: gradient boosting and an additive
logistic regression. Used as peers of the model. Shapes: N rows, C columns of features.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import QuantileTransformer

from models.hand import HandFeatures
from models.knowledge import Knowledge
from training.dataset import Examples

Array = NDArray[np.floating]
Scored = Callable[[Array], NDArray[np.float32]]
"""Features [N, C] to probabilities [N]; NaN of a fit whose rows no feature told apart, as of pictures alone."""

AT_ONCE = 4096
QUANTILES = 50
RARE = 0.01
"""A feature that fewer rows than this share have is left out."""


def hand_features(examples: Examples, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """[rows, N] of `models.hand.HandFeatures`, NaN where not known."""
    parts, known, hand = [], Knowledge(), HandFeatures()
    for first in range(0, len(rows), AT_ONCE):
        summary = torch.from_numpy(examples.summary[rows[first : first + AT_ONCE]])
        parts.append(hand(summary, known(summary)).numpy())
    return np.concatenate(parts)


def telling(features: Array) -> NDArray[np.int64]:
    """The columns that more rows than a few have and that are not the same everywhere."""
    common = np.isfinite(features).mean(0) > RARE
    common[common] = np.nanmin(features[:, common], 0) < np.nanmax(features[:, common], 0)
    return np.flatnonzero(common)


def _silent(asked: Array) -> NDArray[np.float32]:
    return np.full(len(asked), np.nan, np.float32)


def boosted(features: Array, label: Array, seed: int = 0) -> Scored:
    """Histogram gradient boosting (scikit-learn): small steps, shallow trees, a tenth of the features at a split."""
    common = telling(features)
    if not len(common):
        return _silent
    fitted = HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=200,
        max_leaf_nodes=12,
        min_samples_leaf=30,
        l2_regularization=5.0,
        max_features=0.1,
        early_stopping=False,
        random_state=seed,
    ).fit(features[:, common], label)
    return lambda asked: fitted.predict_proba(asked[:, common])[:, 1].astype(np.float32)


def additive(features: Array, label: Array, seed: int = 0) -> Scored:
    """Logistic regression on normal scores, their squares and flags of what is missing."""
    common = telling(features)
    if not len(common):
        return _silent
    scale = QuantileTransformer(
        n_quantiles=min(QUANTILES, len(label)), output_distribution="normal", subsample=20_000, random_state=seed
    ).fit(features[:, common])

    def prepared(asked: Array) -> Array:
        score = np.nan_to_num(np.clip(scale.transform(asked[:, common]), -3, 3))
        return np.concatenate([score, 0.3 * score**2, np.isnan(asked[:, common])], axis=1)

    fitted = LogisticRegression(C=0.002, max_iter=300).fit(prepared(features), label)
    return lambda asked: fitted.predict_proba(prepared(asked))[:, 1].astype(np.float32)
