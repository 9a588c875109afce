"""The scan encoder: a small residual CNN over one 224 x 224 grey picture and a learned vector for its modality.

Shapes: B rows, D width, K kinds. BatchNorm folds into the convolutions on export.
"""

import itertools

import torch
from torch import Tensor, nn

from models.kinds import KINDS


class _Residual(nn.Module):
    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inward, outward, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(outward),
            nn.ReLU(),
            nn.Conv2d(outward, outward, 3, padding=1, bias=False),
            nn.BatchNorm2d(outward),
        )
        self.skip = nn.Sequential(nn.Conv2d(inward, outward, 1, stride=2, bias=False), nn.BatchNorm2d(outward))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.path(x) + self.skip(x))


class ScanEncoder(nn.Module):
    """[B, D] from pixels [B, 1, 224, 224] in 0..1 and kind [B, K], one-hot."""

    def __init__(self, width: int = 64, channels: tuple[int, ...] = (16, 32, 64, 128)) -> None:
        super().__init__()
        first = nn.Sequential(
            nn.Conv2d(1, channels[0], 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU()
        )
        stages = [_Residual(a, b) for a, b in itertools.pairwise(channels)]
        self.features = nn.Sequential(first, *stages)
        self.kind = nn.Linear(len(KINDS), width)
        self.out = nn.Linear(2 * channels[-1], width)
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels: Tensor, kind: Tensor) -> Tensor:
        features = self.features((pixels - 0.5) * 4)
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], -1)
        return self.norm(self.out(pooled) + self.kind(kind))
