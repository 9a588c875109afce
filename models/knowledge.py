"""Which numbers of a summary are known. Shapes: B rows, R rows of a summary (`window.ROWS`), V signals."""

import torch
from torch import Tensor, nn

from models.window import HOURS, ROWS, H, R


def _resting_on(row: str) -> str:
    """The row that must be at least 1 for this one to be known."""
    if row in ("measured", "last", "age"):
        return "measured"
    return f"count_{row.rpartition('_')[2]}"


class Knowledge(nn.Module):
    """[B, R, V] of 0 and 1: a figure is known where something was measured over its hours, a deviation where twice."""

    def __init__(self) -> None:
        super().__init__()
        rests_RR, beyond_R1 = torch.zeros(R, R), torch.zeros(R, 1)
        for place, row in enumerate(ROWS):
            rests_RR[place, ROWS.index(_resting_on(row))] = 1
        beyond_R1[ROWS.index(f"std_{HOURS}h")] = 1
        self.register_buffer("rests", rests_RR, persistent=False)
        self.register_buffer("beyond", beyond_R1, persistent=False)

    def forward(self, summary: Tensor) -> Tensor:
        return torch.clamp(torch.matmul(self.rests, summary) - self.beyond, 0, 1)


FLAGS = 1 + H
"""Rows of it that say all: ever measured, and measured over each horizon."""
