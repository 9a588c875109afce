"""What the model is measured against, on the same splits: gradient boosting and logistic regression on hand features,
NEWS2 and qSOFA.

A peer that learns does so from the training patients of every data set that teaches a condition, as the model does, and
its hand features are figures of the same window that the model sees. It gets less than the model all the same: no notes
or scans (`document_peers.py` has peers for these), of a stay only the last snapshot, and nothing of who died within 90
days (`Stay.taught`). Owns features and fits; leaves splits to `crossval.py` and figures to `metrics.py`.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from models.conditions import CONDITIONS
from models.signals import SIGNALS, by_name
from models.window import SLOTS
from streaming.news2 import score as news2_score
from training.dataset import Examples
from training.hand import Scored, additive, boosted, hand_features

Array = NDArray[np.floating]
Rows = NDArray[np.int64]

OTHER_HOURS = 0.15
"""Share of hours without the hourly condition that are trained on: they outnumber the others seventy to one."""


def training_rows(
    examples: Examples, rows: Rows, column: int, seed: int, other_hours: float = OTHER_HOURS, late: int = 1
) -> Rows:
    """The rows that a peer learns a condition from: those labelled; of an hourly one all with it, a share of the rest;
    of any other a source's last snapshots, `late` of them."""
    label = examples.labels[rows, column]
    if CONDITIONS[column].hourly:
        chosen = np.random.default_rng(seed).random(len(rows)) < other_hours
        return rows[(label == 1) | (chosen & (label == 0))]
    labelled = rows[~np.isnan(label)]
    newest: dict[str, int] = {}
    for source in np.unique(examples.source[labelled]):
        newest[source] = int(examples.snapshot[labelled][examples.source[labelled] == source].max())
    last = np.array([newest[source] for source in examples.source[labelled]], np.int64)
    return labelled[examples.snapshot[labelled] > last - late]


def each_condition(
    examples: Examples,
    train: Rows,
    test: Rows,
    fit: Callable[[Rows, Rows, int], Array],
    columns: Iterable[int] = range(len(CONDITIONS)),
) -> NDArray[np.float32]:
    """[test, C] what `fit(learned rows, asked rows, column)` says of every condition that has both labels, one fit for all
    sources, asked about the labelled test rows; NaN elsewhere."""
    told = np.full((len(test), len(CONDITIONS)), np.nan, np.float32)
    for column in columns:
        rows = training_rows(examples, train, column, seed=0)
        label = examples.labels[rows, column]
        asked = np.flatnonzero(~np.isnan(examples.labels[test, column]))
        if len(asked) and 0 < label.sum() < len(label):
            told[asked, column] = _of_all_hours(fit(rows, test[asked], column), column)
    return told


def _of_all_hours(told: Array, column: int) -> Array:
    """Probabilities at the share of hours there is, from those at the share that `training_rows` left of them."""
    return told * OTHER_HOURS / (told * OTHER_HOURS + 1 - told) if CONDITIONS[column].hourly else told


def features_of(examples: Examples, rows: Rows) -> NDArray[np.float32]:
    """`hand_features` of these rows, and how old the newest measurement is."""
    age_h = examples.age_h[rows, SLOTS.index("vitals")]
    return np.concatenate([hand_features(examples, rows), age_h[:, None]], axis=1)


def _on_hand_features(
    examples: Examples, train: Rows, test: Rows, fit: Callable[[Array, Array], Scored]
) -> NDArray[np.float32]:
    def told(rows: Rows, asked: Rows, column: int) -> Array:
        return fit(features_of(examples, rows), examples.labels[rows, column])(features_of(examples, asked))

    return each_condition(examples, train, test, told)


def gradient_boosting(examples: Examples, train: Rows, test: Rows) -> NDArray[np.float32]:
    """Histogram gradient boosting on the hand features."""
    return _on_hand_features(examples, train, test, boosted)


def logistic_regression(examples: Examples, train: Rows, test: Rows) -> NDArray[np.float32]:
    """Additive logistic regression on the hand features."""
    return _on_hand_features(examples, train, test, additive)


def news2(examples: Examples, train: Rows, test: Rows) -> NDArray[np.float32]:
    """NEWS2 of the newest vitals of the last day, as a score of every condition that any data will do for; nothing
    measured is 0."""
    fresh = (examples.last_mask[test] > 0) & (examples.last_age_h[test] <= 24)
    vital = [index for index, signal in enumerate(SIGNALS) if signal.kind == "vital"]
    told = [
        news2_score({SIGNALS[index].name: float(values[index]) for index in vital if known[index]}) or 0
        for values, known in zip(examples.last[test], fresh, strict=True)
    ]
    return _rule(np.array(told, np.float32))


def qsofa(examples: Examples, train: Rows, test: Rows) -> NDArray[np.float32]:
    """qSOFA (Singer et al. 2016): breathing 22 or faster, systolic 100 or lower, GCS under 15; a point each. Where all
    three parts of a GCS are known it is their sum, as in NEWS2."""
    known, last = examples.last_mask[test] > 0, examples.last[test]
    parts = [by_name[name] for name in ("gcs_eye", "gcs_verbal", "gcs_motor")]
    rate, pressure, total = by_name["respiratory_rate"], by_name["systolic"], by_name["gcs"]
    summed = known[:, parts].all(1)
    points = (known[:, rate] & (last[:, rate] >= 22)).astype(np.float32)
    points += known[:, pressure] & (last[:, pressure] <= 100)
    points += (summed | known[:, total]) & (np.where(summed, last[:, parts].sum(1), last[:, total]) < 15)
    return _rule(points)


def _rule(points: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([np.full_like(points, np.nan) if one.needs else points for one in CONDITIONS], axis=1)


PEERS = {
    "gradient-boosting": gradient_boosting,
    "logistic-regression": logistic_regression,
    "news2": news2,
    "qsofa": qsofa,
}
"""Every peer, by the name it has in reports."""
RULES = frozenset({"news2", "qsofa"})
"""Those of them that give points, no probability."""
