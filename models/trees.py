"""Boosted trees of depth three as tensors: one log odds a condition, from hand features of the window.

They are fitted by gradient boosting (`training/boosting.py`). Every node of every tree is asked at once, so that they
convert whole. Shapes: B rows, P figures a signal (`PER_SIGNAL`), V signals, G conditions, M trees, 7 nodes and 8
leaves a tree in the order of a heap.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.quotients import Quotients
from models.window import FIGURES, HOURS, H

PER_SIGNAL = ("last", "age", *FIGURES, "last-first", "last-mean", "6h-48h", "max-min")
P = len(PER_SIGNAL)
DEPTH = 3
NODES = 2**DEPTH - 1
NEVER = -1e30
"""A threshold that no value is below; with `missing_left` 0 a node that always goes right."""
FAR = 3e38
"""Beyond every threshold: a value that is not known is told as this, or its negative, as the node wants it."""

_CHANGES = (("last", "first_48h"), ("last", "mean_48h"), ("mean_6h", "mean_48h"), ("max_48h", "min_48h"))
_TOP = (0, 1, 2)
_LOWEST = (3, 5, 4, 6)
"""Nodes of the lowest level: the left children of nodes 1 and 2, then the right ones, so that halves meet."""


def knowledge(last_mask: Tensor, figures: Tensor) -> Tensor:
    """[B, H + 3, V]: measured over each horizon, ever, more than once, and 1."""
    count = figures[:, :H]
    several = (count[:, H - 1 :] > 1).float()
    known = torch.cat([(count > 0).float(), last_mask.unsqueeze(1), several], 1)
    return nn.functional.pad(known, (0, 0, 0, 1), value=1.0)


EVER, SEVERAL, ALWAYS = H, H + 1, H + 2
KNOWN_BY = {"last": EVER, "age": EVER, "last-first": H - 1, "last-mean": H - 1, "6h-48h": 0, "max-min": H - 1}
"""Which row of `knowledge` says whether a figure is known; a count always is."""
KNOWN_BY |= {name: ALWAYS if name.startswith("count") else place % H for place, name in enumerate(FIGURES[: 4 * H])}
KNOWN_BY |= {f"std_{HOURS}h": SEVERAL, f"first_{HOURS}h": H - 1}


class HandFeatures(nn.Module):
    """[B, P * V + N] features and whether each is known: newest value and its age, the window's figures, changes, and
    `Quotients`.
    """

    def __init__(self) -> None:
        super().__init__()
        for name, side in (("minuend", 0), ("subtrahend", 1)):
            rows = torch.tensor([PER_SIGNAL.index(pair[side]) for pair in _CHANGES])
            self.register_buffer(name, rows, persistent=False)
        self.register_buffer("known_by", torch.tensor([KNOWN_BY[name] for name in PER_SIGNAL]), persistent=False)
        self.quotients = Quotients(PER_SIGNAL)

    def forward(self, last: Tensor, last_age_h: Tensor, last_mask: Tensor, figures: Tensor) -> tuple[Tensor, Tensor]:
        told = torch.cat([last.unsqueeze(1), last_age_h.unsqueeze(1), figures], 1)
        changes = told.index_select(1, self.minuend) - told.index_select(1, self.subtrahend)
        known = knowledge(last_mask, figures).index_select(1, self.known_by)
        return self.quotients(torch.cat([told, changes], 1).flatten(1), known.flatten(1))


class BoostedTrees(nn.Module):
    """[B, G] log odds; before they are fitted, 0."""

    def __init__(self, conditions: int, trees: int) -> None:
        super().__init__()
        self.register_buffer("feature", torch.zeros(conditions * trees * NODES, dtype=torch.int64))
        self.register_buffer("threshold", torch.full((conditions, trees, NODES), NEVER))
        self.register_buffer("missing_left", torch.zeros(conditions, trees, NODES))
        self.register_buffer("leaf", torch.zeros(conditions, trees, NODES + 1))
        self.register_buffer("start", torch.zeros(conditions))

    def forward(self, told: Tensor, known: Tensor) -> Tensor:
        """Takes `HandFeatures`. What depends on the trees alone is constant, and folded by whoever compiles this."""
        conditions, trees, _ = self.threshold.shape
        feature = self.feature.view(conditions, trees, NODES) + self.missing_left.long() * told.shape[1]
        there = known > 0
        asked = torch.cat([torch.where(there, told, FAR), torch.where(there, told, -FAR)], 1)
        value = asked.index_select(1, _by_node(feature, (*_TOP, *_LOWEST)).flatten())
        value = value.view(-1, NODES, conditions * trees)
        left = (value <= _by_node(self.thresholds(), (*_TOP, *_LOWEST))).float()
        if_right = _by_node(self.leaf, [2 * node - 2 * 3 + 1 for node in _LOWEST])
        if_left = _by_node(self.leaf, [2 * node - 2 * 3 for node in _LOWEST])
        reached = if_right + left[:, 3:] * (if_left - if_right)
        for first, last in ((1, 3), (0, 1)):  # from the leaves up, a node's two children become its value
            half = last - first
            reached = reached[:, half:] + left[:, first:last] * (reached[:, :half] - reached[:, half:])
        # Two sums at once: after a squeeze OpenVINO 2026.4 reads memory that is not its own.
        return reached.view(-1, 1, conditions, trees).sum((1, 3)) + self.start

    def thresholds(self) -> Tensor:
        """[G, M, nodes], all finite: scikit-learn's are infinite where only absence decides."""
        return torch.clamp(self.threshold, max=FAR / 2)


def _by_node(x: Tensor, order: Sequence[int]) -> Tensor:
    """[nodes, conditions * trees] of [conditions, trees, nodes]: what is done at once lies together."""
    return torch.stack([x[..., node].flatten() for node in order])
