"""Hand features of the model's own window, and the two classical fits on them: gradient boosting and an additive
logistic regression. Used as peers of the model and as its teachers. Shapes: N rows, C columns of features.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import QuantileTransformer

from models.window import FIGURES, H, WindowBatch

Array = NDArray[np.floating]
Scored = Callable[[Array], NDArray[np.float32]]
"""Features [N, C] to probabilities [N]."""

RARE = 0.01
"""A feature that fewer rows than this share have is left out."""


def hand_features(window: WindowBatch, age_h: Array) -> NDArray[np.float32]:
    """[N, C], NaN where nothing was measured: newest value, its age, count, mean, least, greatest over 6, 24 and 48 h,
    spread, first, and changes: newest against first and mean, 6 h against 48 h; last the age of the window itself."""
    figures = window.figures
    count, known = figures[:, :H], figures[:, :H] > 0
    last = np.where(window.last_mask > 0, window.last, np.nan)
    age = np.where(window.last_mask > 0, window.last_age_h, np.nan)
    mean, low, high = (np.where(known, figures[:, start : start + H], np.nan) for start in range(H, 4 * H, H))
    spread = np.where(count[:, -1] > 1, figures[:, FIGURES.index("std_48h")], np.nan)
    first = np.where(known[:, -1], figures[:, FIGURES.index("first_48h")], np.nan)
    parts = [last, age, *(stack[:, at] for stack in (count, mean, low, high) for at in range(H)), spread, first]
    parts += [last - first, last - mean[:, -1], mean[:, 0] - mean[:, -1], high[:, -1] - low[:, -1], age_h[:, None]]
    return np.concatenate(parts, axis=1).astype(np.float32)


def boosted(features: Array, label: Array, seed: int = 0) -> Scored:
    """Histogram gradient boosting (scikit-learn): small steps, shallow trees, a tenth of the features at a split."""
    common = np.isfinite(features).mean(0) > RARE
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
    common = np.isfinite(features).mean(0) > RARE
    scale = QuantileTransformer(n_quantiles=50, output_distribution="normal", subsample=20_000, random_state=seed).fit(
        features[:, common]
    )

    def prepared(asked: Array) -> Array:
        score = np.nan_to_num(np.clip(scale.transform(asked[:, common]), -3, 3))
        return np.concatenate([score, 0.3 * score**2, np.isnan(asked[:, common])], axis=1)

    fitted = LogisticRegression(C=0.002, max_iter=300).fit(prepared(features), label)
    return lambda asked: fitted.predict_proba(prepared(asked))[:, 1].astype(np.float32)
