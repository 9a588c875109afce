"""Attention written out, so that every part converts whole to ONNX and TensorRT. Shapes: B rows, N tokens, D width."""

import torch
from torch import Tensor, nn

ODDS = 0.25
"""Log odds in a token are scaled by this, so that they are about as great as its other numbers."""
MASKED = -1e4  # finite: an all-masked row stays a number


def ending_with(odds_BG: Tensor, token_BD: Tensor) -> Tensor:
    """[B, D]: the token with its last G numbers replaced by log odds."""
    return torch.cat([token_BD[:, : token_BD.shape[1] - odds_BG.shape[1]], odds_BG * ODDS], 1)


class SelfAttention(nn.Module):
    """Multi-head attention with an additive key mask."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BND: Tensor, bias_BN: Tensor | None, queries: int | None = None) -> Tensor:
        """What the first `queries` tokens gather from all (None: every token)."""
        b, n, d = x_BND.shape
        qkv = self.qkv(x_BND).view(b, n, 3 * self.heads, d // self.heads)
        q, k, v = qkv.transpose(1, 2).split(self.heads, 1)
        if queries is not None:
            q, n = q[:, :, :queries], queries
        scores = torch.matmul(q, k.transpose(-1, -2)) * (d // self.heads) ** -0.5
        if bias_BN is not None:
            scores = scores + bias_BN[:, None, None, :]
        mixed = torch.matmul(torch.softmax(scores, -1), v)
        return self.out(mixed.transpose(1, 2).reshape(b, n, d))


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

    def forward(self, x_BND: Tensor, bias_BN: Tensor | None = None, queries: int | None = None) -> Tensor:
        """With `queries`, only so many tokens are carried on: a last block need not compute what nobody reads."""
        mixed = self.attention(self.norm1(x_BND), bias_BN, queries)
        x_BND = (x_BND if queries is None else x_BND[:, :queries]) + self.dropout(mixed)
        return x_BND + self.dropout(self.feed(self.norm2(x_BND)))
