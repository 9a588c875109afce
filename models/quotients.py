"""Quotients and sums of hand features that clinicians read and a tree of few splits cannot make: shock index, oxygen
per inspired oxygen, urea per creatinine, urine passed. Shapes: B rows, P figures a signal, V signals, N quotients.
"""

import torch
from torch import Tensor, nn

from models.signals import by_name
from models.window import V

LEAST = 1e-3
"""Below it nothing is divided by: neither 0 nor what is not known, which is told as 0."""
_ONE = None
_OF_URINE = tuple((f"mean_{hours}h", "urine", f"count_{hours}h") for hours in (6, 24, 48))
QUOTIENTS: tuple[tuple[tuple[str, str], str | None, tuple[str, str] | None], ...] = (
    (("last", "heart_rate"), _ONE, ("last", "systolic")),
    (("mean_48h", "heart_rate"), _ONE, ("mean_48h", "systolic")),
    (("last", "pao2"), _ONE, ("last", "fio2")),
    (("min_48h", "pao2"), _ONE, ("max_48h", "fio2")),
    (("last", "urea_nitrogen"), _ONE, ("last", "creatinine")),
    *(((mean, name), count, _ONE) for mean, name, count in _OF_URINE),
    *(((mean, name), count, ("last", "weight")) for mean, name, count in _OF_URINE[1:]),
)
"""A figure of a signal, the count it is multiplied by (of the same signal), and what it is divided by."""


class Quotients(nn.Module):
    """Takes [B, P * V] features and whether each is known, returns both with [B, N] more; `figures` names the P."""

    def __init__(self, figures: tuple[str, ...]) -> None:
        super().__init__()

        def place(figure: str, signal: str) -> int:
            return figures.index(figure) * V + by_name[signal]

        one = len(figures) * V + place("count_6h", "urine")  # among what is known: a count always is
        above = [place(*top) for top, _, _ in QUOTIENTS]
        times = [one if count is None else place(count, top[1]) for top, count, _ in QUOTIENTS]
        below = [one if bottom is None else place(*bottom) for _, _, bottom in QUOTIENTS]
        self.register_buffer("above", torch.tensor(above), persistent=False)
        self.register_buffer("all", torch.tensor([*above, *times, *below]), persistent=False)

    def forward(self, told: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        above, times, below = torch.cat([told, known], 1).index_select(1, self.all).split(len(QUOTIENTS), 1)
        quotient = above * times / torch.clamp(below, min=LEAST)
        here = known.index_select(1, self.above) * (below > LEAST).float()
        return torch.cat([told, quotient], 1), torch.cat([known, here], 1)
