"""Which outcomes a score cannot rule out: class-conditional (Mondrian) split-conformal prediction sets. NumPy only.

Of patients with the event, at least a share `level` have "event" in their set, and of those without, at least that
share have "no event": each class by itself, so that a rare event is covered as well as the common outcome (Vovk et al.
2005, Algorithmic Learning in a Random World, 4.5; COMPOSER, Shashikumar et al. 2021, abstains on the same ground).
The promise holds for patients exchangeable with those the cuts were fitted on, in their mixture of hospitals. A set
that is not exactly one outcome tells nothing: the head abstains. Shapes: B rows, C conditions.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.8
"""Of the shipped artifact: the watch level keeps 80 % recall, so a stricter promise would leave most of it unsaid."""

OUTCOMES = ("no event", "event")


@dataclass(frozen=True, slots=True)
class Conformal:
    """Cuts on the calibrated probability, f64 [C]: "no event" is in the set up to `no_event_to`, "event" from
    `event_from` on, both ends included."""

    level: float
    no_event_to: NDArray[np.float64]
    event_from: NDArray[np.float64]

    def contains(self, probability: NDArray[np.floating]) -> NDArray[np.bool_]:
        """[B, C, 2]: whether each of `OUTCOMES` is in the set of a probability [B, C]."""
        found = np.empty((*probability.shape, 2), np.bool_)
        np.less_equal(probability, self.no_event_to, found[..., 0])
        np.greater_equal(probability, self.event_from, found[..., 1])
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "level": self.level,
            "no_event_to": self.no_event_to.tolist(),
            "event_from": self.event_from.tolist(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Conformal":
        return cls(data["level"], np.array(data["no_event_to"]), np.array(data["event_from"]))


def fit(
    probability: NDArray[np.floating],
    label: NDArray[np.floating],
    cluster: NDArray[np.str_],
    level: float = LEVEL,
    seed: int = 0,
) -> Conformal:
    """Cuts from patients that trained nothing: probability and label [N, C] (NaN where unknown), patient (`cluster`) [N].

    Of each patient and class one row is drawn, since only patients are exchangeable, not their hours. A class with too
    few patients for the level (fewer than level / (1 - level)) stays in every set, so the head abstains rather than
    promise.

    Raises:
        ValueError: the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError("a conformal level lies between 0 and 1")
    rng = np.random.default_rng(seed)
    conditions = label.shape[1]
    no_event_to, event_from = np.ones(conditions), np.zeros(conditions)
    for column in range(conditions):
        for outcome in (0, 1):
            rows = rng.permutation(np.flatnonzero(label[:, column] == outcome))
            _, first = np.unique(cluster[rows], return_index=True)
            told = np.sort(np.asarray(probability[rows[first], column], np.float64))
            rank = math.ceil((len(told) + 1) * level)  # of the nonconformity: the other outcome's probability
            if rank > len(told):
                continue
            if outcome == 0:
                no_event_to[column] = told[rank - 1]
            else:
                event_from[column] = told[len(told) - rank]
    return Conformal(level, no_event_to, event_from)


def abstains(contains: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[B, C] from `Conformal.contains`: the set is empty or holds both outcomes."""
    return contains.sum(-1) != 1
