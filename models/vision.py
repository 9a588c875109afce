"""The scan encoder: one 224 x 224 grey picture and its DICOM modality to a vector.

Two views of the picture, both pooled by mean and maximum: the first eleven blocks of EfficientNet-Lite0 (Tan and Le 2019,
arXiv 1905.11946; no squeeze, ReLU6) at full size, and a small CNN over the picture averaged to 56 x 56, where a nodule's
patch still has all its detail. The trunk starts from ImageNet weights (`training/imagenet.py`) and stays as it is, so
that training computes its features once a picture: `forward(x, kind)` = `embed(trunk(x), shrunk(x), kind)`. The token ends
with log odds that are linear in the trunk's features, or in the token itself (`models/evidence.py`).

Shapes: B rows, D width, K kinds, F pooled features. BatchNorm folds into the convolutions on export.
"""

import itertools

import torch
from torch import Tensor, nn

from models.evidence import Evidence
from models.kinds import KINDS
from models.layers import ending_with

TRUNK = (  # kernel, stride, expansion, channels out, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
)
STEM = 32
POOLED_STAGES = (2, 3, 4)  # whose output is pooled: edges and textures transfer better to radiographs than objects do
FEATURES = 2 * sum(TRUNK[stage][3] for stage in POOLED_STAGES)
_EPSILON = 1e-3
_REDUCTION = 4  # 224 -> 56


def _pooled(x: Tensor) -> Tensor:
    return torch.cat([x.mean((2, 3)), x.amax((2, 3))], -1)


class SameConv(nn.Module):
    """Convolution and BatchNorm, padded as TensorFlow's SAME: the odd pixel to the right and below."""

    def __init__(self, inward: int, outward: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        spare = kernel - stride
        self.pad = nn.ZeroPad2d((spare // 2, spare - spare // 2, spare // 2, spare - spare // 2))
        self.conv = nn.Conv2d(inward, outward, kernel, stride=stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outward, eps=_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.pad(x)))


class InvertedBottleneck(nn.Module):
    """Expand, filter each channel, project; the input is added where shapes allow."""

    def __init__(self, inward: int, outward: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inward * expansion
        self.expand = SameConv(inward, middle, 1) if expansion > 1 else nn.Identity()
        self.filter = SameConv(middle, middle, kernel, stride, groups=middle)
        self.project = SameConv(middle, outward, 1)
        self.act = nn.ReLU6() if expansion > 1 else nn.Identity()
        self.skips = stride == 1 and inward == outward

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(nn.functional.relu6(self.filter(self.act(self.expand(x)))))
        return x + out if self.skips else out


class Trunk(nn.Module):
    """[B, F] pooled features of pixels [B, 1, 224, 224] in 0..1. Frozen: its BatchNorm never leaves evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(1, STEM, 3, 2)
        self.stages = nn.ModuleList()
        inward = STEM
        for kernel, stride, expansion, outward, count in TRUNK:
            blocks = []
            for number in range(count):
                blocks.append(InvertedBottleneck(inward, outward, kernel, 1 if number else stride, expansion))
                inward = outward
            self.stages.append(nn.Sequential(*blocks))
        self.requires_grad_(False)
        self.eval()  # a module is made in training mode

    def train(self, mode: bool = True) -> "Trunk":
        return super().train(False)

    def forward(self, pixels: Tensor) -> Tensor:
        x = nn.functional.relu6(self.stem((pixels * 255 - 127) / 128))  # as the ImageNet weights were trained
        found = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in POOLED_STAGES:
                found.append(_pooled(x))
        return torch.cat(found, -1)


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


def shrunk(pixels: Tensor) -> Tensor:
    """[B, 1, 56, 56] averages of [B, 1, 224, 224]: what `Detail` looks at."""
    return nn.functional.avg_pool2d(pixels, _REDUCTION)


class Detail(nn.Module):
    """[B, 2 C] of a shrunk picture [B, 1, 56, 56]."""

    def __init__(self, channels: tuple[int, ...] = (12, 24, 48, 64)) -> None:
        super().__init__()
        first = nn.Sequential(
            nn.Conv2d(1, channels[0], 3, padding=1, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU()
        )
        self.features = nn.Sequential(first, *(_Residual(a, b) for a, b in itertools.pairwise(channels)))
        self.width = 2 * channels[-1]

    def forward(self, small: Tensor) -> Tensor:
        return _pooled(self.features((small - 0.5) * 4))


class ScanEncoder(nn.Module):
    """[B, D] from pixels [B, 1, 224, 224] in 0..1 and kind [B, K], one-hot."""

    def __init__(self, width: int = 64, dropout: float = 0.3, conditions: int = 0) -> None:
        super().__init__()
        self.trunk, self.detail = Trunk(), Detail()
        self.scale = nn.BatchNorm1d(FEATURES)  # so that neither view drowns the other
        self.dropout = nn.Dropout(dropout)
        self.of_trunk = nn.Linear(FEATURES, width)
        self.of_detail = nn.Linear(self.detail.width, width)
        self.kind = nn.Linear(len(KINDS), width)
        self.norm = nn.LayerNorm(width)
        self.evidence = Evidence(FEATURES + width, conditions) if conditions else None

    def described(self, features: Tensor, small: Tensor, kind: Tensor) -> Tensor:
        """[B, D] from the trunk's features [B, F] and the shrunk picture: the token without log odds."""
        whole = self.of_trunk(self.dropout(self.scale(features)))
        return self.norm(whole + self.of_detail(self.dropout(self.detail(small))) + self.kind(kind))

    def embed(self, features: Tensor, small: Tensor, kind: Tensor) -> Tensor:
        """[B, D] of the same: the token."""
        out_BD = self.described(features, small, kind)
        if self.evidence is None:
            return out_BD
        return ending_with(self.evidence(torch.cat([features, out_BD], 1)), out_BD)

    def forward(self, pixels: Tensor, kind: Tensor) -> Tensor:
        return self.embed(self.trunk(pixels), shrunk(pixels), kind)
