"""Rows of examples as tensors, and the network over them. Owns what training does to inputs: modalities and signals
that go missing, scans that say nothing. Shapes: B rows, C conditions, S slots, V signals.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.conditions import CONDITIONS
from models.network import Network
from models.window import MAX_NOTES, MODALITIES, SLOTS, WINDOW_FIELDS, V, WindowBatch
from training.dataset import Examples
from training.recipes import Recipe
from training.teachers import Teachers

Rows = NDArray[np.int64]
_NOTES_AT, _SCANS_AT = SLOTS.index("notes"), SLOTS.index("scans")
_HOURLY = [column for column, condition in enumerate(CONDITIONS) if condition.hourly]
SCORED_AT_ONCE = 512
MIXED = 0.3
"""Mean share of signals that come from the other row of a mixture."""


def pool(examples: Examples, rows: Rows, recipe: Recipe, rng: np.random.Generator) -> Rows:
    """The rows a run learns from: of an hourly condition every hour that has it and a share of the others; any other
    row."""
    label = examples.labels[rows][:, _HOURLY]
    others = ~np.isnan(label).all(1) & ~(label == 1).any(1)
    return rows[~others | (rng.random(len(rows)) < recipe.other_hours)]


@dataclass(frozen=True, slots=True)
class Epoch:
    """Rows in order; of each the row whose signals `take` [n, V] come in place of its own (itself: none); [n, C] the
    targets, NaN where unknown."""

    rows: Rows
    partner: Rows
    take: NDArray[np.bool_]
    targets: NDArray[np.float32]

    def part(self, chosen: NDArray[np.int64] | slice) -> "Epoch":
        return Epoch(self.rows[chosen], self.partner[chosen], self.take[chosen], self.targets[chosen])


def draw(
    examples: Examples,
    rows: Rows,
    targets: NDArray[np.float32],
    mixtures: Epoch | None,
    recipe: Recipe,
    rng: np.random.Generator,
) -> Epoch:
    """One epoch of a pool: of a stay's other snapshots each a share of the time, its last one always, every hour; and
    all mixtures. targets: [N, C] of the rows themselves."""
    hourly = ~np.isnan(examples.labels[rows][:, _HOURLY]).all(1)
    group, snapshot = examples.group[rows], examples.snapshot[rows]
    last = np.append((group[1:] != group[:-1]) | (snapshot[1:] <= snapshot[:-1]), True)
    drawn = rows[hourly | last | (rng.random(len(rows)) < recipe.snapshots)]
    whole = Epoch(drawn, drawn, np.zeros((len(drawn), V), bool), targets[drawn])
    if mixtures is not None:
        whole = Epoch(*(np.concatenate([getattr(one, n) for one in (whole, mixtures)]) for n in Epoch.__slots__))
    return whole.part(rng.permutation(len(whole.rows)))


def mixtures(examples: Examples, rows: Rows, teachers: Teachers, recipe: Recipe, rng: np.random.Generator) -> Epoch:
    """Pairs of rows of one source, the first with some signals of the other, and what the teachers say of them."""
    parts = []
    for member in teachers.members:
        own = rows[examples.source[rows] == member.source]
        count = int(recipe.mixtures * len(own))
        parts.append((rng.choice(own, count), rng.choice(own, count)))
    one, other = (np.concatenate(side) for side in zip(*parts, strict=True))
    take = rng.random((len(one), V)) < MIXED * 2 * rng.random((len(one), 1))
    told = np.empty((len(one), examples.labels.shape[1]), np.float32)
    for first in range(0, len(one), SCORED_AT_ONCE):
        part = slice(first, first + SCORED_AT_ONCE)
        window = mixed(examples.window(one[part]), examples.window(other[part]), take[part])
        age_h = examples.age_h[one[part], SLOTS.index("vitals")]
        told[part] = teachers.say(window, age_h, one[part], examples.source[one[part]])
    return Epoch(one, other, take, told)


def mixed(window: WindowBatch, other: WindowBatch, take: NDArray[np.bool_]) -> WindowBatch:
    """The first, with the signals `take` [B, V] of the other."""
    return WindowBatch(
        *(
            np.where(take.reshape(len(take), *(1,) * (getattr(window, name).ndim - 2), V), getattr(other, name), one)
            for name, one in ((name, getattr(window, name)) for name in WINDOW_FIELDS)
        )
    )


class Batches:
    """Examples and the finished tokens of their notes [T, D] and scans [P, D], ready to be cut."""

    def __init__(self, examples: Examples, notes: Tensor, scans: Tensor) -> None:
        self.examples, self.notes, self.scans = examples, notes, scans

    def all_logits(self, network: Network, rows: Rows) -> NDArray[np.float32]:
        """[rows, C] as the network serves: nothing is dropped."""
        network.eval()
        with torch.inference_mode():
            parts = [
                self._logits(network, rows[first : first + SCORED_AT_ONCE]).numpy()
                for first in range(0, len(rows), SCORED_AT_ONCE)
            ]
        return np.concatenate(parts)

    def logits(self, network: Network, batch: Epoch, recipe: Recipe, rng: np.random.Generator) -> Tensor:
        """[B, C] as in training: modalities and signals go missing and scans that say nothing come in."""
        e, rows = self.examples, batch.rows
        present = e.present[rows].copy()
        age_h = e.age_h[rows].copy()
        picture_at = e.picture_at[rows].copy()
        if recipe.plain_scans and len(e.pictures):
            plain = (rng.random(len(rows)) < recipe.plain_scans) & (picture_at < 0)
            picture_at[plain] = rng.integers(0, len(e.pictures), int(plain.sum()))
            present[plain, _SCANS_AT] = 1
            age_h[plain, _SCANS_AT] = rng.random(int(plain.sum())) * 48
        for name in MODALITIES:
            slots = np.array([slot == name for slot in SLOTS])
            gone = (rng.random(len(rows)) < recipe.drop_modality) & present[:, ~slots].any(1)
            present[np.ix_(gone, slots)] = 0
        window = mixed(e.window(rows), e.window(batch.partner), batch.take)
        window = without_signals(window, recipe.drop_signals, rng)
        return self._fused(network, rows, window, present, age_h, picture_at)

    def _logits(self, network: Network, rows: Rows) -> Tensor:
        e = self.examples
        return self._fused(network, rows, e.window(rows), e.present[rows], e.age_h[rows], e.picture_at[rows])

    def _fused(
        self,
        network: Network,
        rows: Rows,
        window: WindowBatch,
        present: NDArray[np.float32],
        age_h: NDArray[np.float32],
        picture_at: Rows,
    ) -> Tensor:
        e = self.examples
        tokens = torch.zeros(len(rows), len(SLOTS), network.architecture.width)
        tokens[:, 0] = network.vitals(*(torch.from_numpy(getattr(window, name)) for name in WINDOW_FIELDS))
        for place in range(MAX_NOTES):
            at = e.note_at[rows, place]
            have = np.flatnonzero((at >= 0) & (present[:, _NOTES_AT + place] > 0))
            tokens[have, _NOTES_AT + place] = self.notes[at[have]]
        have = np.flatnonzero((picture_at >= 0) & (present[:, _SCANS_AT] > 0))
        tokens[have, _SCANS_AT] = self.scans[picture_at[have]]
        return network.fusion(tokens, torch.from_numpy(present), torch.from_numpy(age_h))


def without_signals(window: WindowBatch, most: float, rng: np.random.Generator) -> WindowBatch:
    """In half of the rows signals are gone, as if never measured: a share of them, up to `most`."""
    b = len(window.last)
    rate = rng.random((b, 1)) * most * (rng.random((b, 1)) < 0.5)
    keep = (rng.random((b, V)) >= rate).astype(np.float32)
    return replace(
        window,
        values=window.values * keep[:, None],
        mask=window.mask * keep[:, None],
        last=window.last * keep,
        last_age_h=window.last_age_h * keep,
        last_mask=window.last_mask * keep,
        figures=window.figures * keep[:, None],
    )
