"""Log odds of a condition that two classical fits agree on: boosted trees and a logistic regression, weighed.

The trees know jumps and what goes together, the regression (additive over normal scores, their squares and what was not
measured) slopes; they err on different patients. Both are fitted and weighed by `training/odds.py` and enter the vitals
encoder as features, after He et al. 2014, "Practical lessons from predicting clicks on ads". Shapes: B rows, G conditions,
I the encoder's inputs (`VitalsEncoder.summarised`).
"""

import torch
from torch import Tensor, nn

from models.trees import BoostedTrees


class Odds(nn.Module):
    """[B, G] log odds from `HandFeatures` and [B, I] of `summarised`; before they are fitted, 0. `share` is the
    regression's weight."""

    def __init__(self, conditions: int, trees: int, inputs: int) -> None:
        super().__init__()
        self.trees = BoostedTrees(conditions, trees)
        self.register_buffer("weight", torch.zeros(conditions, inputs))
        self.register_buffer("bias", torch.zeros(conditions))
        self.register_buffer("share", torch.full((conditions,), 0.5))

    def forward(self, features: Tensor, summarised_BI: Tensor) -> Tensor:
        return self.weighed(self.trees(features), self.additive(summarised_BI))

    def additive(self, summarised_BI: Tensor) -> Tensor:
        """[B, G] log odds of the regression alone."""
        return nn.functional.linear(summarised_BI, self.weight, self.bias)

    def weighed(self, by_trees_BG: Tensor, by_regression_BG: Tensor) -> Tensor:
        """[B, G] what both agree on."""
        return (1 - self.share) * by_trees_BG + self.share * by_regression_BG
