"""The vitals encoder: a token of the summary, which asks two-hour bins by attention and carries the answer.

Every figure becomes a normal score by a piecewise linear map between quantiles of the training patients (a quantile
embedding after Gorishniy et al. 2022, "On embeddings for numerical features in tabular deep learning", reduced to one
number and its square: with few thousand stays the wide embedding learned less). The token ends with the log odds of
two classical fits (`models/odds.py`), of other conditions with those of a linear fit (`models/evidence.py`), to which the
fusion adds what the network knows beyond them. Map, fits and the bins' means and deviations are buffers: they travel with
the weights.

Shapes: B rows, T bins of time, V signals, R rows of a summary of which K have scores, Q quantile steps, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.evidence import Evidence
from models.hand import HandFeatures
from models.knowledge import FLAGS, Knowledge
from models.layers import MASKED, Block, ending_with, together
from models.odds import Odds
from models.window import BINS, R, V

CLIP = 5.0
STEPS = 8
FIRST = 1
"""The summary's first row that has scores: that something was measured is a flag."""
K = R - FIRST
SQUARED = 0.3
"""Weight of a score's square, which has greater spread than the score."""
QUIET = 0.2
HIDDEN = 16
"""Numbers that the inputs are reduced to, once straight and once bent: their weights are much of what an update reads."""
INPUTS = 2 * K * V + FLAGS * V


class NormalScores(nn.Module):
    """[B, K * V] figures to their normal scores, 0 where they are not known."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(K, V, STEPS))
        self.register_buffer("width", torch.ones(K, V, STEPS))
        self.register_buffer("rise", torch.zeros(K, V, STEPS))
        self.register_buffer("start", torch.zeros(K, V))

    def forward(self, figures_BI: Tensor, known_BI: Tensor) -> Tensor:
        low_QI, inverse_QI, rise_QI = (x.flatten(0, 1).t() for x in (self.low, 1 / self.width, self.rise))  # constants
        passed_BQI = torch.clamp((figures_BI.unsqueeze(1) - low_QI) * inverse_QI, 0, 1)
        return ((passed_BQI * rise_QI).sum(1) + self.start.flatten()) * known_BI


class VitalsEncoder(nn.Module):
    """[B, D] from what was measured; what was not is masked, never imputed."""

    def __init__(
        self,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        hidden: int = HIDDEN,
        boosted: int = 0,
        trees: int = 0,
        linear: int = 0,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(V))
        self.register_buffer("std", torch.ones(V))
        self.register_buffer("measured", torch.cat([torch.zeros(1, V), torch.ones(1, V)], 1), persistent=False)
        self.step = nn.Linear(2 * V, width)
        self.position = nn.Parameter(torch.randn(BINS, width) * 0.02)
        self.scores = NormalScores()
        self.known, self.hand = Knowledge(), HandFeatures()
        self.odds = Odds(boosted, trees, INPUTS) if boosted else None
        self.evidence = Evidence(INPUTS, linear) if linear else None
        self.seen = nn.Dropout(dropout / 2)
        self.read = nn.Linear(INPUTS, 2 * hidden)
        self.kept = nn.Dropout(dropout)
        self.told = nn.Linear(2 * hidden, width)
        with torch.no_grad():  # thousands of inputs: what chance wrote into their weights, few stays cannot unlearn
            self.read.weight *= QUIET
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, bins: Tensor, summary: Tensor) -> Tensor:
        known = self.known(summary)
        told_BI = self.summarised(summary, known)
        maps = list(zip(self.read.weight.chunk(2), self.read.bias.chunk(2), strict=True))
        if self.odds is not None:
            maps.append((self.odds.weight, self.odds.bias))
        if self.evidence is not None:
            maps.append((self.evidence.weight.t(), self.evidence.bias))
        straight_BH, bent_BH, *linear = together(told_BI, maps)
        odds = []
        if self.odds is not None:
            odds.append(self.odds.weighed(self.odds.trees(self.hand(summary, known)), linear.pop(0)))
        if self.evidence is not None:
            odds.append(self.evidence.bounded(linear.pop(0)))
        return self._encoded(bins, straight_BH, bent_BH, odds)

    def encoded(self, bins: Tensor, told_BI: Tensor, odds: Sequence[Tensor]) -> Tensor:
        """The token, while it learns, from what is `summarised` and log odds [B, ...] of fits that never saw the
        patient."""
        return self._encoded(bins, *self.read(self.seen(told_BI)).chunk(2, 1), odds)

    def summarised(self, summary: Tensor, known: Tensor) -> Tensor:
        """[B, INPUTS]: every figure's score and its square, then what was measured ever and over each horizon."""
        known_BJ = known.flatten(1)
        score_BI = self.scores(summary.flatten(1)[:, FIRST * V :], known_BJ[:, FIRST * V :])
        return torch.cat([score_BI, score_BI * score_BI * SQUARED, known_BJ[:, : FLAGS * V]], 1)

    def _encoded(self, bins: Tensor, straight_BH: Tensor, bent_BH: Tensor, odds: Sequence[Tensor]) -> Tensor:
        asking_BD = self.told(self.kept(torch.cat([straight_BH, nn.functional.gelu(bent_BH)], 1)))
        x_BTD = self._steps(bins)
        # bins without a measurement are not attended to
        mask_B1T = torch.clamp(torch.matmul(self.measured * -MASKED, bins.transpose(1, 2)), max=-MASKED) + MASKED
        for block in self.blocks[:-1]:
            x_BND = block(torch.cat([asking_BD.unsqueeze(1), x_BTD], 1), nn.functional.pad(mask_B1T, (1, 0)))
            asking_BD, x_BTD = x_BND[:, 0], x_BND[:, 1:]
        out_BD = self.norm(self.blocks[-1].of_one(asking_BD, x_BTD, mask_B1T))
        if not odds:
            return out_BD
        return ending_with(torch.cat(list(odds), 1), out_BD)

    def _steps(self, bins: Tensor) -> Tensor:
        """[B, T, D] of each bin's normalised values and what was measured.

        A value that is missing is told as 0, hence a constant once normalised: the weights of what was measured take
        away what that constant contributes.
        """
        inverse_V = 1 / self.std
        centre, inverse = (
            torch.cat([self.mean, torch.zeros_like(self.mean)]),
            torch.cat([inverse_V, torch.ones_like(self.mean)]),
        )
        missing_V = torch.clamp(-self.mean * inverse_V, -CLIP, CLIP)
        of_value_DV, of_mask_DV = self.step.weight.chunk(2, 1)
        weight = torch.cat([of_value_DV, of_mask_DV + of_value_DV * missing_V], 1)
        placed_TD = self.position + (self.step.bias - torch.matmul(of_value_DV, missing_V))
        scaled = torch.clamp((bins - centre) * inverse, -CLIP, CLIP)
        return torch.matmul(scaled, weight.t()) + placed_TD
