"""Attention written out, so that every part converts whole to ONNX and TensorRT. Shapes: B rows, N tokens, D width.

A mask is added to the scores of keys: [B, 1, N], 0 or `MASKED`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

ODDS = 0.25
"""Log odds in a token are scaled by this, so that they are about as great as its other numbers."""
MASKED = -1e4  # finite: an all-masked row stays a number


def ending_with(odds_BG: Tensor, token_BD: Tensor) -> Tensor:
    """[B, D]: the token with its last G numbers replaced by log odds."""
    return torch.cat([token_BD[:, : token_BD.shape[1] - odds_BG.shape[1]], odds_BG * ODDS], 1)


def together(x_BI: Tensor, maps: Sequence[tuple[Tensor, Tensor]]) -> Sequence[Tensor]:
    """Several linear maps (weight [O, I], bias [O]) of one input as one product: [B, O] each."""
    weights, biases = zip(*maps, strict=True)
    joined = nn.functional.linear(x_BI, torch.cat(weights), torch.cat(biases))
    return joined.split([len(bias) for bias in biases], 1)


class SelfAttention(nn.Module):
    """Multi-head attention with an additive key mask."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BND: Tensor, mask_B1N: Tensor | None) -> Tensor:
        """What every token gathers from all."""
        b, n, d = x_BND.shape
        qkv = self.qkv(x_BND).view(b, n, 3 * self.heads, d // self.heads)
        q, k, v = qkv.transpose(1, 2).split(self.heads, 1)
        scores = torch.matmul(q, k.transpose(-1, -2)) * (d // self.heads) ** -0.5
        if mask_B1N is not None:
            scores = scores + mask_B1N.unsqueeze(1)
        mixed = torch.matmul(torch.softmax(scores, -1), v)
        return self.out(mixed.transpose(1, 2).reshape(b, n, d))

    def of_one(self, asking_BD: Tensor, x_BND: Tensor, mask_B1N: Tensor | None) -> Tensor:
        """[B, D]: what one token gathers of others, without a key or a value for any.

        q k = x0 (Wq Wk') x and Wo (a Wv x) = (Wo Wv) (a x): the products of weights are constants, so each head's query
        meets the tokens, and what it gathers of them meets the rest. A key's bias moves all scores of a head alike, which
        softmax does not see; a value's comes through whole, since weights sum to one.
        """
        b, _, d = x_BND.shape
        of_head = (self.heads, d // self.heads, d)
        q_HED, k_HED, v_HED = (weight.view(of_head) for weight in self.qkv.weight.split(d))
        q_bias, _, v_bias = self.qkv.bias.split(d)
        scale = (d // self.heads) ** -0.5
        asks_DHD = torch.matmul(q_HED.transpose(1, 2), k_HED).transpose(0, 1).reshape(d, -1) * scale
        asks_bias = torch.matmul(q_bias.view(self.heads, 1, -1), k_HED).view(-1) * scale
        asked_BHD = (torch.matmul(asking_BD, asks_DHD) + asks_bias).view(b, self.heads, d)
        scores_BHN = torch.matmul(asked_BHD, x_BND.transpose(1, 2))
        if mask_B1N is not None:
            scores_BHN = scores_BHN + mask_B1N
        gathered_BHD = torch.matmul(torch.softmax(scores_BHN, -1), x_BND)
        tells_HDD = torch.matmul(v_HED.transpose(1, 2), self.out.weight.t().view(*of_head)).flatten(0, 1)
        tells_bias = torch.matmul(self.out.weight, v_bias) + self.out.bias
        return torch.matmul(gathered_BHD.flatten(1), tells_HDD) + tells_bias


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.feed = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BND: Tensor, mask_B1N: Tensor | None = None) -> Tensor:
        return self._fed(x_BND + self.dropout(self.attention(self.norm1(x_BND), mask_B1N)))

    def of_one(self, asking_BD: Tensor, x_BND: Tensor, mask_B1N: Tensor | None = None) -> Tensor:
        """[B, D]: one token carried on by what it gathers of others. A last block need not compute what nobody reads."""
        gathered_BD = self.attention.of_one(self.norm1(asking_BD), self.norm1(x_BND), mask_B1N)
        return self._fed(asking_BD + self.dropout(gathered_BD))

    def _fed(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.feed(self.norm2(x)))
