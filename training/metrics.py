"""AUROC, AUPRC, Brier and ECE with bootstrap 95 % intervals over rows."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

Array = NDArray[np.floating]
BINS = 10


def ece(label: Array, probability: Array) -> float:
    """Expected calibration error over ten bins of equal count (Naeini et al. 2015, adaptive bins)."""
    order = np.argsort(probability)
    parts = np.array_split(order, BINS)
    gaps = [abs(label[part].mean() - probability[part].mean()) * len(part) for part in parts if len(part)]
    return float(sum(gaps) / len(label))


METRICS: dict[str, Callable[[Array, Array], float]] = {
    "auroc": roc_auc_score,
    "auprc": average_precision_score,
    "brier": brier_score_loss,
    "ece": ece,
}


def evaluate(label: Array, probability: Array, seed: int = 0, rounds: int = 500) -> dict[str, object]:
    """`{metric: {"value", "low", "high"}, "n", "positives"}`; a metric that needs both classes is left out without."""
    found: dict[str, object] = {"n": len(label), "positives": int(label.sum())}
    if not 0 < label.sum() < len(label):
        return found
    rng = np.random.default_rng(seed)
    draws = [rng.integers(0, len(label), len(label)) for _ in range(rounds)]
    draws = [rows for rows in draws if 0 < label[rows].sum() < len(rows)]
    for name, metric in METRICS.items():
        spread = [metric(label[rows], probability[rows]) for rows in draws]
        low, high = np.quantile(spread, [0.025, 0.975])
        found[name] = {"value": float(metric(label, probability)), "low": float(low), "high": float(high)}
    return found
