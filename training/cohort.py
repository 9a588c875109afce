"""Splits by patient: nobody is on two sides, and every side has its share of each source's outcomes.

Random folds differ in how many patients have the condition, and a model whose training part had few believes it rare
exactly where it is frequent: scores of several folds, put together, then rank worse than any fold's own (Forman and Scholz
2010, "Apples-to-apples in cross-validation studies"). So patients are spread evenly, stratum by stratum. N rows.
"""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Names = NDArray[np.str_]


def strata(group: Names, source: Names, labels: NDArray[np.floating]) -> NDArray[np.int64]:
    """[N] one number for a source and what its patient ever had of the labels [N, C], NaN where unknown."""
    names, of_row = np.unique(group, return_inverse=True)
    had = np.full((len(names), labels.shape[1]), -1.0)
    np.fmax.at(had, of_row, labels)
    of_source = np.zeros(len(names))
    of_source[of_row] = np.unique(source, return_inverse=True)[1]
    return np.unique(np.column_stack([of_source, had]), axis=0, return_inverse=True)[1].ravel()[of_row]


def split(
    group: Names, stratum: NDArray[np.int64], train_share: float, validation_share: float, seed: int
) -> tuple[Rows, Rows, Rows]:
    """Row numbers of train, validation and test; shares are of patients."""
    place_N = _places(group, stratum, seed)
    part_N = np.searchsorted([train_share, train_share + validation_share], place_N, side="right")
    train, validation, test = (np.flatnonzero(part_N == part) for part in range(3))
    return train, validation, test


def folds(group: Names, stratum: NDArray[np.int64], count: int, seed: int) -> list[tuple[Rows, Rows]]:
    """Row numbers of (all others, test) for each fold: every patient is in exactly one fold's test."""
    fold_N = (_places(group, stratum, seed) * count).astype(np.int64)
    return [(np.flatnonzero(fold_N != number), np.flatnonzero(fold_N == number)) for number in range(count)]


def patient_folds(group: Names, stratum: NDArray[np.int64], rows: Rows, count: int, seed: int) -> NDArray[np.int64]:
    """[N] fold of every row of these rows' patients, -1 of other patients'."""
    found = np.full(len(group), -1)
    inside = np.flatnonzero(np.isin(group, group[rows]))
    found[inside] = (_places(group[inside], stratum[inside], seed) * count).astype(np.int64)
    return found


def patient_shares(cluster: Names) -> NDArray[np.float64]:
    """[N] one over the rows of a row's patient: what it counts where every patient counts once."""
    _, of_row, count = np.unique(cluster, return_inverse=True, return_counts=True)
    return 1 / count[of_row]


def _places(group: Names, stratum: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """[N] each patient's place in [0, 1): in random order, and those of one stratum equally far apart."""
    rng = np.random.default_rng(seed)
    names, first, of_row = np.unique(group, return_index=True, return_inverse=True)
    order = rng.permutation(len(names))
    kind = stratum[first]
    order = order[np.argsort(kind[order], kind="stable")]
    _, start, count = np.unique(kind[order], return_index=True, return_counts=True)
    place = np.empty(len(names))
    offset = rng.random(len(count))
    place[order] = (np.arange(len(names)) - np.repeat(start - offset, count)) / np.repeat(count, count)
    return place[of_row]
