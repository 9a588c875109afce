"""First lessons of the note and scan encoders, before fusion; then they are kept as they are, and give a token once.

Few patients have notes or scans, so their encoders learn alone, each under a linear head of its own (`head.py` says what
becomes of the scans'), from the training rows' (soft) labels; the fusion then learns over finished tokens, at a fraction of
the cost of running a recurrent network and a CNN in every step. Shapes: N rows, P pictures, T texts, C conditions, D width.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.kinds import KINDS
from models.text import NoteEncoder
from models.vision import FEATURES, ScanEncoder, Trunk, shrunk
from training import imagenet
from training.dataset import Examples

Rows = NDArray[np.int64]
Report = Callable[[str], None]

AT_ONCE = 128
FEW_PICTURES = 4
"""Pictures that the trunk looks at together, channels last: more than twice as fast as 128 of them, channels first."""
FEWEST = 32
"""Fewer rows than this are no lesson: the encoder stays as it was drawn."""
_CT = KINDS.index("CT")


@dataclass(frozen=True, slots=True)
class Views:
    """What the scan encoder sees of every picture, once: the trunk's features [P, F], the shrunk picture [P, 1, 56, 56]."""

    features: Tensor
    small: Tensor


def views(trunk: Trunk, pictures: NDArray[np.float32]) -> Views:
    """Both views of pictures [P, 224, 224]. The trunk never changes, so one call serves every fold and seed."""
    features, small = [torch.zeros(0, FEATURES)], [torch.zeros(0, 1, 56, 56)]
    quick = copy.deepcopy(trunk).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        for first in range(0, len(pictures), FEW_PICTURES):
            pixels = torch.from_numpy(pictures[first : first + FEW_PICTURES]).unsqueeze(1)
            features.append(quick(pixels))
            small.append(shrunk(pixels))
    return Views(torch.cat(features).clone(), torch.cat(small).clone())


def imagenet_views(pictures: NDArray[np.float32]) -> Views:
    """`views` by the trunk with its ImageNet weights, which every run begins with."""
    trunk = Trunk()
    if len(pictures):
        imagenet.load_trunk(trunk)
    return views(trunk, pictures)


def learn_scans(
    encoder: ScanEncoder,
    examples: Examples,
    seen: Views,
    rows: Rows,
    targets: NDArray[np.floating],
    seed: int,
    report: Report,
    *,
    epochs: int = 10,
    rate: float = 3e-3,
    batch: int = 64,
) -> nn.Linear | None:
    """Trains the encoder, but for its trunk, on the rows that have a picture and a target; targets [N, C], NaN unknown.

    Returns the head [D] -> [C] that it learned under; None where too few rows have both.

    CT pictures are turned and mirrored, others mirrored only; all are moved, brightened and darkened a little.
    """
    rows = rows[(examples.picture_at[rows] >= 0) & ~np.isnan(targets[rows]).all(1)]
    if len(rows) < FEWEST:
        return None
    batch = min(batch, len(rows) // 4)
    head = nn.Linear(encoder.norm.normalized_shape[0], targets.shape[1])
    kinds = torch.from_numpy(examples.kinds)
    rng = np.random.default_rng(seed)

    def logits(chosen: Rows) -> Tensor:
        at = torch.from_numpy(examples.picture_at[chosen])
        small = _varied(seen.small[at], kinds[at, _CT] > 0, rng)
        return head(encoder.described(seen.features[at], small, kinds[at]))

    _learn((encoder, head), logits, rows, targets, rng, report, "scans", epochs, rate, batch)
    return head


def _varied(small: Tensor, turns: Tensor, rng: np.random.Generator) -> Tensor:
    turn, mirror = int(rng.integers(4)), bool(rng.integers(2))
    small = torch.where(turns[:, None, None, None], torch.rot90(small, turn, (2, 3)), small)
    small = small.flip(3) if mirror else small
    down, right = (int(step) for step in rng.integers(-3, 4, 2))
    return torch.roll(small, (down, right), (2, 3)) * rng.uniform(0.85, 1.15) + rng.normal(0, 0.04)


def learn_notes(
    encoder: NoteEncoder,
    examples: Examples,
    ids: NDArray[np.int64],
    rows: Rows,
    targets: NDArray[np.floating],
    seed: int,
    report: Report,
    *,
    epochs: int = 3,
    rate: float = 1e-3,
    batch: int = 64,
) -> nn.Linear | None:
    """Trains the encoder on the rows that have a note and a target, over the mean of each row's note tokens.

    Returns the head [D] -> [C] that it learned under; None where too few rows have both.
    """
    rows = rows[(examples.note_at[rows] >= 0).any(1) & ~np.isnan(targets[rows]).all(1)]
    if len(rows) < FEWEST:
        return None
    batch = min(batch, len(rows) // 4)
    head = nn.Linear(encoder.norm.normalized_shape[0], targets.shape[1])
    held = torch.from_numpy(ids)
    rng = np.random.default_rng(seed)

    def logits(chosen: Rows) -> Tensor:
        at = examples.note_at[chosen]
        row, _ = np.nonzero(at >= 0)
        tokens = _encoded(encoder, held[torch.from_numpy(at[at >= 0])])
        share = np.zeros((len(chosen), len(row)), np.float32)
        share[row, np.arange(len(row))] = 1 / (at >= 0).sum(1)[row]
        return head(torch.matmul(torch.from_numpy(share), tokens))

    _learn((encoder, head), logits, rows, targets, rng, report, "notes", epochs, rate, batch)
    return head


def _learn(
    parts: tuple[nn.Module, nn.Module],
    logits: Callable[[Rows], Tensor],
    rows: Rows,
    targets: NDArray[np.floating],
    rng: np.random.Generator,
    report: Report,
    what: str,
    epochs: int,
    rate: float,
    batch: int,
) -> None:
    """A fixed number of epochs of AdamW with one warm cycle: nothing is chosen by looking at other rows."""
    wanted = torch.from_numpy(targets.astype(np.float32))
    module = nn.ModuleList(parts)
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learned, rate, weight_decay=0.05)
    steps = epochs * (len(rows) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    module.train()
    for epoch in range(1, epochs + 1):
        order, total = rng.permutation(rows), 0.0
        for first in range(0, len(order) - batch + 1, batch):
            chosen = order[first : first + batch]
            known = ~torch.isnan(wanted[chosen])
            loss = nn.functional.binary_cross_entropy_with_logits(logits(chosen)[known], wanted[chosen][known])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(learned, 1.0)
            optimiser.step()
            schedule.step()
            total += loss.item()
        report(f"{what} alone, epoch {epoch}/{epochs}: loss {total / math.floor(len(order) / batch):.4f}")
    module.eval()


def _encoded(encoder: NoteEncoder, ids: Tensor) -> Tensor:
    """[B, D] as the encoder itself gives it; short notes go through it apart, because padding costs as much as text."""
    sentences = (ids[:, :, 0] > 0).sum(1)
    found, places = [], []
    shorter = -1
    for length in (2, 4, 8, ids.shape[1]):
        at = torch.nonzero((sentences > shorter) & (sentences <= length)).squeeze(1)
        shorter = length
        if len(at):
            found.append(encoder(ids[at, :length]))
            places.append(at)
    return torch.cat(found)[torch.argsort(torch.cat(places))]


def note_tokens(encoder: NoteEncoder, ids: NDArray[np.int64]) -> Tensor:
    """[T, D] of token ids [T, S, W]."""
    encoder.eval()
    width = encoder.norm.normalized_shape[0]
    with torch.inference_mode():
        parts = [encoder(torch.from_numpy(ids[first : first + AT_ONCE])) for first in range(0, len(ids), AT_ONCE)]
    return torch.cat([torch.zeros(0, width), *parts]).clone()


def scan_tokens(encoder: ScanEncoder, seen: Views, kinds: NDArray[np.float32]) -> Tensor:
    """[P, D] of both views and the pictures' kinds [P, K]."""
    return _of_pictures(encoder, encoder.embed, seen, kinds)


def scan_descriptions(encoder: ScanEncoder, seen: Views, kinds: NDArray[np.float32]) -> Tensor:
    """[P, D] tokens without log odds: what a head of `learn_scans` reads."""
    return _of_pictures(encoder, encoder.described, seen, kinds)


def _of_pictures(
    encoder: ScanEncoder, told: Callable[[Tensor, Tensor, Tensor], Tensor], seen: Views, kinds: NDArray[np.float32]
) -> Tensor:
    encoder.eval()
    width = encoder.norm.normalized_shape[0]
    with torch.inference_mode():
        parts = [
            told(
                seen.features[first : first + AT_ONCE],
                seen.small[first : first + AT_ONCE],
                torch.from_numpy(kinds[first : first + AT_ONCE]),
            )
            for first in range(0, len(kinds), AT_ONCE)
        ]
    return torch.cat([torch.zeros(0, width), *parts]).clone()
