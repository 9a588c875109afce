"""The vitals encoder: a transformer over two-hour bins and one token of figures, which carries the answer.

Every figure becomes a normal score by a piecewise linear map between quantiles of the training patients (a quantile
embedding after Gorishniy et al. 2022, "On embeddings for numerical features in tabular deep learning", reduced to one
number and its square: with few thousand stays the wide embedding learned less). The token ends with the log odds of
two classical fits (`models/odds.py`), of other conditions with those of a linear fit (`models/evidence.py`), to which the
fusion adds what the network knows beyond them. Map, fits and the bins' means and deviations are buffers: they travel with
the weights.

Shapes: B rows, T bins of time, V signals, K figures of a signal (`KINDS`), Q quantile steps, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.evidence import Evidence
from models.layers import MASKED, Block, ending_with, together
from models.odds import Odds
from models.trees import EVER, HandFeatures, knowledge
from models.window import BINS, FIGURES, F, H, V

CLIP = 5.0
STEPS = 8
KINDS = (*FIGURES, "last", "age")
K = len(KINDS)
SQUARED = 0.3
"""Weight of a score's square, which has greater spread than the score."""
QUIET = 0.2
HIDDEN = 16
"""Numbers that the inputs are reduced to, once straight and once bent: their weights are much of what an update reads."""
INPUTS = 2 * K * V + (H + 1) * V

_KNOWN_BY = [place % H if place < 4 * H else H - 1 for place in range(F)] + [EVER] * (K - F)
"""Which row of `knowledge` says whether a figure has a score: std and first are over all of the window."""


class NormalScores(nn.Module):
    """[B, K, V] of figures to their normal scores, 0 where they are not known."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(K, V, STEPS))
        self.register_buffer("width", torch.ones(K, V, STEPS))
        self.register_buffer("rise", torch.zeros(K, V, STEPS))
        self.register_buffer("start", torch.zeros(K, V))

    def forward(self, figures_BKV: Tensor, known_BKV: Tensor) -> Tensor:
        low_QI, inverse_QI, rise_QI = (x.flatten(0, 1).t() for x in (self.low, 1 / self.width, self.rise))  # constants
        passed_BQI = torch.clamp((figures_BKV.flatten(1).unsqueeze(1) - low_QI) * inverse_QI, 0, 1)
        return ((passed_BQI * rise_QI).sum(1).view_as(known_BKV) + self.start) * known_BKV


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
        self.step = nn.Linear(2 * V, width)
        self.position = nn.Parameter(torch.randn(BINS, width) * 0.02)
        self.scores = NormalScores()
        self.register_buffer("known_by", torch.tensor(_KNOWN_BY), persistent=False)
        self.hand = HandFeatures()
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

    def forward(
        self, values: Tensor, mask: Tensor, last: Tensor, last_age_h: Tensor, last_mask: Tensor, figures: Tensor
    ) -> Tensor:
        told_BI = self.summarised(last, last_age_h, last_mask, figures)
        maps = [(self.read.weight, self.read.bias)]
        if self.odds is not None:
            maps.append((self.odds.weight, self.odds.bias))
        if self.evidence is not None:
            maps.append((self.evidence.weight.t(), self.evidence.bias))
        read_BH, *linear = together(told_BI, maps)
        odds = []
        if self.odds is not None:
            by_trees_BG = self.odds.trees(*self.hand(last, last_age_h, last_mask, figures))
            odds.append(self.odds.weighed(by_trees_BG, linear.pop(0)))
        if self.evidence is not None:
            odds.append(self.evidence.bounded(linear.pop(0)))
        return self._encoded(values, mask, read_BH, odds)

    def encoded(self, values: Tensor, mask: Tensor, told_BI: Tensor, odds: Sequence[Tensor]) -> Tensor:
        """The token, while it learns, from what is `summarised` and log odds [B, ...] of fits that never saw the
        patient."""
        return self._encoded(values, mask, self.read(self.seen(told_BI)), odds)

    def _encoded(self, values: Tensor, mask: Tensor, read_BH: Tensor, odds: Sequence[Tensor]) -> Tensor:
        straight_BH, bent_BH = read_BH.chunk(2, 1)
        summary_BD = self.told(self.kept(torch.cat([straight_BH, nn.functional.gelu(bent_BH)], 1)))
        scaled_BTV = torch.clamp((values - self.mean) * (1 / self.std), -CLIP, CLIP) * mask
        placed_TD = self.position + self.step.bias
        steps_BTD = torch.matmul(torch.cat([scaled_BTV, mask], -1), self.step.weight.t()) + placed_TD
        x_BND = torch.cat([summary_BD.unsqueeze(1), steps_BTD], 1)
        empty_BT = (mask.sum(-1) == 0).float()  # bins without a measurement are not attended to
        bias_BN = nn.functional.pad(empty_BT * MASKED, (1, 0))
        for block in self.blocks[:-1]:
            x_BND = block(x_BND, bias_BN)
        x_BND = self.blocks[-1].first(x_BND, bias_BN)
        out_BD = self.norm(x_BND[:, 0])
        if not odds:
            return out_BD
        return ending_with(torch.cat(list(odds), 1), out_BD)

    def summarised(self, last: Tensor, last_age_h: Tensor, last_mask: Tensor, figures: Tensor) -> Tensor:
        """[B, INPUTS]: every figure's score and its square, then what was not measured over each horizon or ever."""
        knowledge_BXV = knowledge(last_mask, figures)
        told_BKV = torch.cat([figures, last.unsqueeze(1), last_age_h.unsqueeze(1)], 1)
        score_BKV = self.scores(told_BKV, knowledge_BXV.index_select(1, self.known_by))
        return torch.cat([score_BKV, score_BKV * score_BKV * SQUARED, 1 - knowledge_BXV[:, : EVER + 1]], 1).flatten(1)
