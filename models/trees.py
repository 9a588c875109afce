"""Boosted trees of depth three as tensors: one log odds a condition, from hand features of the window (`hand.py`).

They are fitted by gradient boosting (`training/boosting.py`). Every node of every tree is asked at once, so that they
convert whole. Shapes: B rows, N features, G conditions, M trees, 7 nodes and 8 leaves a tree in the order of a heap.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

DEPTH = 3
NODES = 2**DEPTH - 1
NEVER = -1e30
"""A threshold that no value is below; with `missing_left` 0 a node that always goes right."""
FAR = 3e38
"""Beyond every threshold: a value that is not known is told as this, or its negative, as the node wants it."""

_TOP = (0, 1, 2)
_LOWEST = (3, 5, 4, 6)
"""Nodes of the lowest level: the left children of nodes 1 and 2, then the right ones, so that halves meet."""


class BoostedTrees(nn.Module):
    """[B, G] log odds; before they are fitted, 0."""

    def __init__(self, conditions: int, trees: int) -> None:
        super().__init__()
        self.register_buffer("feature", torch.zeros(conditions * trees * NODES, dtype=torch.int64))
        self.register_buffer("threshold", torch.full((conditions, trees, NODES), NEVER))
        self.register_buffer("missing_left", torch.zeros(conditions, trees, NODES))
        self.register_buffer("leaf", torch.zeros(conditions, trees, NODES + 1))
        self.register_buffer("start", torch.zeros(conditions))

    def forward(self, features: Tensor) -> Tensor:
        """Takes [B, N], NaN where not known. What depends on the trees alone is constant, and folded by whoever compiles
        this."""
        conditions, trees, _ = self.threshold.shape
        feature = self.feature.view(conditions, trees, NODES) + self.missing_left.long() * features.shape[1]
        missing = torch.isnan(features)
        asked = torch.cat([torch.where(missing, FAR, features), torch.where(missing, -FAR, features)], 1)
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
