"""Log odds of a condition that two classical fits agree on: boosted trees and a logistic regression, their mean.

The trees know jumps and what goes together, the regression (additive over normal scores, their squares and what was not
measured) slopes; they err on different patients. Both are fitted by `training/odds.py` and enter the vitals encoder as
features, after He et al. 2014, "Practical lessons from predicting clicks on ads". Shapes: B rows, G conditions, I the
encoder's inputs (`VitalsEncoder.summarised`).
"""

import torch
from torch import Tensor, nn

from models.trees import BoostedTrees


class Odds(nn.Module):
    """[B, G] log odds; before they are fitted, 0. `forward` takes `hand_features` and [B, I] of `summarised`."""

    def __init__(self, conditions: int, trees: int, inputs: int) -> None:
        super().__init__()
        self.trees = BoostedTrees(conditions, trees)
        self.register_buffer("weight", torch.zeros(conditions, inputs))
        self.register_buffer("bias", torch.zeros(conditions))

    def forward(self, told: Tensor, known: Tensor, summarised_BI: Tensor) -> Tensor:
        additive_BG = nn.functional.linear(summarised_BI, self.weight, self.bias)
        return (self.trees(told, known) + additive_BG) / 2
