"""Hand features for trees: the summary as it is, changes between its figures, and what clinicians read and a tree of few
splits cannot make: shock index, oxygen per inspired oxygen, urea per creatinine, urine passed.

What is not known is NaN, as scikit-learn's trees want it, and so is whatever is made of it. Shapes: B rows, R rows of a
summary (`window.ROWS`), V signals, N features.
"""

import torch
from torch import Tensor, nn

from models.signals import by_name
from models.window import ROWS, R, V

CHANGES = (("last", "first_48h"), ("last", "mean_48h"), ("mean_6h", "mean_48h"), ("max_48h", "min_48h"))
"""Of every signal: the first less the second."""
_ONE = "measured"  # it is 1 where anything else of the signal is known
_OF_URINE = tuple((f"mean_{hours}h", "urine", f"count_{hours}h") for hours in (6, 24, 48))
QUOTIENTS: tuple[tuple[tuple[str, str], str, tuple[str, str]], ...] = (
    (("last", "heart_rate"), _ONE, ("last", "systolic")),
    (("mean_48h", "heart_rate"), _ONE, ("mean_48h", "systolic")),
    (("last", "pao2"), _ONE, ("last", "fio2")),
    (("min_48h", "pao2"), _ONE, ("max_48h", "fio2")),
    (("last", "urea_nitrogen"), _ONE, ("last", "creatinine")),
    *(((mean, name), count, (_ONE, name)) for mean, name, count in _OF_URINE),
    *(((mean, name), count, ("last", "weight")) for mean, name, count in _OF_URINE[1:]),
)
"""A figure of a signal, the row of the same signal that it is multiplied by, and what it is divided by, never negative."""
N = (R + len(CHANGES)) * V + len(QUOTIENTS)
LEAST = 1e-3
"""Added to what is divided by, which may be 0."""


def _place(row: str, signal: str) -> int:
    return ROWS.index(row) * V + by_name[signal]


class HandFeatures(nn.Module):
    """[B, N] of a summary [B, R, V] and of what is known of it (`knowledge.py`)."""

    def __init__(self) -> None:
        super().__init__()
        sides = [[ROWS.index(pair[side]) * V + at for pair in CHANGES for at in range(V)] for side in (0, 1)]
        above = [_place(*top) for top, _, _ in QUOTIENTS]
        times = [_place(row, top[1]) for top, row, _ in QUOTIENTS]
        below = [_place(*bottom) for _, _, bottom in QUOTIENTS]
        self.parts = [len(part) for part in (*sides, above, times, below)]
        self.register_buffer("asked", torch.tensor([*sides[0], *sides[1], *above, *times, *below]), persistent=False)

    def forward(self, summary: Tensor, known: Tensor) -> Tensor:
        told_BJ = torch.where(known.flatten(1) > 0, summary.flatten(1), torch.nan)
        later, earlier, above, times, below = told_BJ.index_select(1, self.asked).split(self.parts, 1)
        return torch.cat([told_BJ, later - earlier, above * times / (below + LEAST)], 1)
