"""AUROC, AUPRC, Brier, ECE and an operating point with bootstrap 95 % intervals over rows."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from models.conditions import CONDITIONS
from training.dataset import Examples

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


def operating_point(label: Array, probability: Array, threshold: float) -> dict[str, object]:
    """Accuracy, precision, recall, F1 and the 2012 challenge's score 1 (the lesser of recall and precision), when all
    at or above `threshold` are called positive."""

    def of(name: str) -> Callable[[Array, Array], float]:
        def metric(truth: Array, score: Array) -> float:
            called = score >= threshold
            hit = float((called & (truth == 1)).sum())
            precision, recall = hit / max(1, called.sum()), hit / truth.sum()
            return {
                "accuracy": float((called == (truth == 1)).mean()),
                "precision": precision,
                "recall": recall,
                "f1": 2 * precision * recall / max(1e-12, precision + recall),
                "score1": min(precision, recall),
            }[name]

        return metric

    names = ("accuracy", "precision", "recall", "f1", "score1")
    found = evaluate(label, probability, metrics={name: of(name) for name in names})
    return found | {"threshold": threshold}


def evaluate(
    label: Array,
    probability: Array,
    seed: int = 0,
    rounds: int = 500,
    metrics: Mapping[str, Callable[[Array, Array], float]] = METRICS,
) -> dict[str, object]:
    """`{metric: {"value", "low", "high"}, "n", "positives"}`; a metric that needs both classes is left out without."""
    found: dict[str, object] = {"n": len(label), "positives": int(label.sum())}
    if not 0 < label.sum() < len(label):
        return found
    rng = np.random.default_rng(seed)
    draws = [rng.integers(0, len(label), len(label)) for _ in range(rounds)]
    draws = [rows for rows in draws if 0 < label[rows].sum() < len(rows)]
    for name, metric in metrics.items():
        spread = [metric(label[rows], probability[rows]) for rows in draws]
        low, high = np.quantile(spread, [0.025, 0.975])
        found[name] = {"value": float(metric(label, probability)), "low": float(low), "high": float(high)}
    return found


def tasks(examples: Examples, rows: NDArray[np.int64]) -> Iterator[tuple[str, int, NDArray[np.int64]]]:
    """Of these rows, per source and condition that has labels: `source.condition`, the condition's column, and the
    positions in `rows` that count for it: every snapshot of an hourly condition, else each stay's last."""
    for source in np.unique(examples.source[rows]):
        last = examples.snapshot[examples.source == source].max()
        for column, condition in enumerate(CONDITIONS):
            counts = (examples.source[rows] == source) & ~np.isnan(examples.labels[rows, column])
            if not condition.hourly:
                counts &= examples.snapshot[rows] == last
            if counts.any():
                yield f"{source}.{condition.name}", column, np.flatnonzero(counts)
