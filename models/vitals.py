"""The vitals encoder: a transformer over 48 hourly steps and one token of last values.

Shapes: B rows, T hours, V signals, D width. Inputs are a `window.WindowBatch` in canonical units; mean and standard
deviation are buffers, so normalisation travels with the weights.
"""

import torch
from torch import Tensor, nn

from models.layers import Block
from models.window import HOURS, V

CLIP = 5.0


class VitalsEncoder(nn.Module):
    """[B, D] from what was measured; what was not is masked, never imputed."""

    def __init__(self, width: int = 64, layers: int = 2, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(V))
        self.register_buffer("std", torch.ones(V))
        self.step = nn.Linear(2 * V, width)
        self.position = nn.Parameter(torch.randn(HOURS, width) * 0.02)
        self.summary = nn.Sequential(nn.Linear(3 * V, width), nn.GELU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, values: Tensor, mask: Tensor, last: Tensor, last_age_h: Tensor, last_mask: Tensor) -> Tensor:
        scaled_BTV = torch.clamp((values - self.mean) / self.std, -CLIP, CLIP) * mask
        steps_BTD = self.step(torch.cat([scaled_BTV, mask], -1)) + self.position
        last_BV = torch.clamp((last - self.mean) / self.std, -CLIP, CLIP) * last_mask
        age_BV = torch.log1p(torch.clamp(last_age_h, 0, 1000)) * last_mask
        summary_B1D = self.summary(torch.cat([last_BV, last_mask, age_BV], -1)).unsqueeze(1)
        x_BND = torch.cat([summary_B1D, steps_BTD], 1)
        empty_BT = (mask.sum(-1) == 0).float()  # hours without a measurement are not attended to
        bias_BN = torch.cat([torch.zeros_like(empty_BT[:, :1]), empty_BT * -1e4], 1)
        for block in self.blocks[:-1]:
            x_BND = block(x_BND, bias_BN)
        x_BND = self.blocks[-1](x_BND, bias_BN, queries=1)
        return self.norm(x_BND[:, 0])
