"""Splits by patient: nobody is on two sides."""

import numpy as np
from numpy.typing import NDArray


def split(
    group: NDArray[np.str_], train_share: float, validation_share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers of train, validation and test; shares are of patients."""
    names = np.unique(group)
    order = np.random.default_rng(seed).permutation(len(names))
    first, second = int(len(names) * train_share), int(len(names) * (train_share + validation_share))
    parts = (names[order[:first]], names[order[first:second]], names[order[second:]])
    train, validation, test = (np.flatnonzero(np.isin(group, part)) for part in parts)
    return train, validation, test


def folds(group: NDArray[np.str_], count: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Row numbers of (all others, test) for each fold: every patient is in exactly one fold's test."""
    names = np.unique(group)
    order = np.random.default_rng(seed).permutation(len(names))
    parts = (np.isin(group, names[part]) for part in np.array_split(order, count))
    return [(np.flatnonzero(~inside), np.flatnonzero(inside)) for inside in parts]


def patient_folds(group: NDArray[np.str_], rows: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """[N] fold of every row of these rows' patients, -1 of other patients'."""
    names = np.unique(group[rows])
    of_name = np.random.default_rng(seed).permutation(len(names)) % count
    place_N = np.minimum(np.searchsorted(names, group), len(names) - 1)
    return np.where(names[place_N] == group, of_name[place_N], -1)
