"""Boosted trees of depth three as tensors: one log odds a condition, from hand features of the window.

They are fitted by gradient boosting (`training/boosting.py`). Every node of every tree is asked at once, so that they
convert whole. Shapes: B rows, P figures a signal (`PER_SIGNAL`), V signals, G conditions, M trees, 7 nodes and 8
leaves a tree in the order of a heap.
"""

import torch
from torch import Tensor, nn

from models.window import FIGURES, H

PER_SIGNAL = ("last", "age", *FIGURES, "last-first", "last-mean", "6h-48h", "max-min")
P = len(PER_SIGNAL)
DEPTH = 3
NODES = 2**DEPTH - 1
NEVER = -1e30
"""A threshold that no value is below; with `missing_left` 0 a node that always goes right."""


def hand_features(last: Tensor, last_age_h: Tensor, last_mask: Tensor, figures: Tensor) -> tuple[Tensor, Tensor]:
    """[B, P * V] features and whether each is known: newest value and its age, the window's figures, and changes."""
    count, mean = figures[:, :H], figures[:, H : 2 * H]
    first, whole = figures[:, FIGURES.index("first_48h")], (count[:, H - 1] > 0).float()
    spread = figures[:, FIGURES.index("max_48h")] - figures[:, FIGURES.index("min_48h")]
    changes = (last - first, last - mean[:, H - 1], mean[:, 0] - mean[:, H - 1], spread)
    told = torch.cat([last.unsqueeze(1), last_age_h.unsqueeze(1), figures, torch.stack(changes, 1)], 1)
    measured = (count > 0).float()
    both, here = (last_mask * whole).unsqueeze(1), last_mask.unsqueeze(1)
    several = (count[:, H - 1 :] > 1).float()
    over_48h = whole.unsqueeze(1)
    always = torch.ones_like(measured)
    of_figures = [always, measured, measured, measured, several, over_48h]
    known = torch.cat([here, here, *of_figures, both, both, measured[:, :1], over_48h], 1)
    return told.flatten(1), known.flatten(1)


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
        asked = (-1, *self.threshold.shape)
        value = told.index_select(1, self.feature).view(asked)
        here = known.index_select(1, self.feature).view(asked)
        left = here * (value <= self.threshold).float() + (1 - here) * self.missing_left
        reached = self.leaf.unsqueeze(0)
        for level in range(DEPTH - 1, -1, -1):  # from the leaves up, a node's two children become its value
            first, last = 2**level - 1, 2 ** (level + 1) - 1
            go = left[..., first:last]
            reached = go * reached[..., 0::2] + (1 - go) * reached[..., 1::2]
        return reached.sum((-2, -1)) + self.start  # OpenVINO's answer is wrong after a squeeze of the last dimension
