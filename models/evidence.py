"""What a note, a scan or, without trees, the vitals say of a condition by themselves: a linear log odds at the end of the
token.

Few patients have notes or scans; a penalised logistic regression learns more from them than a network that must find its
own features. `training/evidence.py` fits it, without the base rate: positive speaks for the condition, 0 says nothing.
Where scans were labelled by the thousand, what the scan encoder's own head learned takes its place (`training/head.py`).
The fusion adds it to the logit, as it does the vitals' log odds, and the network learns what goes beyond it.
"""

import torch
from torch import Tensor, nn

MOST = 4.0
"""One document moves the odds by no more than e to this: what is unlike all training documents must not decide alone."""


class Evidence(nn.Module):
    """[B, G] log odds of conditions from features [B, I]; before it is fitted, 0."""

    def __init__(self, inputs: int, conditions: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(inputs, conditions))
        self.register_buffer("bias", torch.zeros(conditions))

    def forward(self, features: Tensor) -> Tensor:
        return self.bounded(torch.matmul(features, self.weight) + self.bias)

    def bounded(self, odds_BG: Tensor) -> Tensor:
        """[B, G] what the features' linear map says, held in bounds."""
        return torch.clamp(odds_BG, -MOST, MOST)
