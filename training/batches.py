"""Rows of examples as tensors, and the network over them. Owns what training does to inputs: modalities and signals
that go missing, scans that say nothing. Shapes: B rows, C conditions, S slots, V signals.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.conditions import CONDITIONS
from models.layers import ODDS, ending_with
from models.network import Network
from models.window import HOURS, MAX_NOTES, MODALITIES, SLOTS, WINDOW_FIELDS, V, WindowBatch
from training.dataset import Examples
from training.evidence import Spoken
from training.odds import Learning
from training.recipes import Recipe

Rows = NDArray[np.int64]
_NOTES_AT, _SCANS_AT = SLOTS.index("notes"), SLOTS.index("scans")
_HOURLY = [column for column, condition in enumerate(CONDITIONS) if condition.hourly]
SCORED_AT_ONCE = 512


def pool(examples: Examples, rows: Rows, recipe: Recipe, rng: np.random.Generator) -> Rows:
    """The rows a run learns from: of an hourly condition every hour that has it and a share of the others; any other
    row."""
    label = examples.labels[rows][:, _HOURLY]
    others = ~np.isnan(label).all(1) & ~(label == 1).any(1)
    return rows[~others | (rng.random(len(rows)) < recipe.other_hours)]


def draw(examples: Examples, rows: Rows, recipe: Recipe, rng: np.random.Generator) -> Rows:
    """One epoch of a pool, in random order: every hour of an hourly condition; of a stay's other snapshots each a share
    of the time, its last one always."""
    hourly = ~np.isnan(examples.labels[rows][:, _HOURLY]).all(1)
    group, snapshot = examples.group[rows], examples.snapshot[rows]
    last = np.append((group[1:] != group[:-1]) | (snapshot[1:] <= snapshot[:-1]), True)
    return rng.permutation(rows[hourly | last | (rng.random(len(rows)) < recipe.snapshots)])


class Batches:
    """Examples and the finished tokens of their notes [T, D] and scans [P, D], ready to be cut.

    learned: the rows that training draws from. learning, spoken: the fits that a row in training is told of by, because
    they never saw its patient.
    """

    def __init__(
        self,
        examples: Examples,
        notes: Tensor,
        scans: Tensor,
        learned: Rows | None = None,
        learning: Learning | None = None,
        spoken: Spoken | None = None,
    ) -> None:
        self.examples, self.notes, self.scans = examples, notes, scans
        self.learning, self.spoken = learning, spoken
        self.plain = _evenly(examples, [] if learned is None else learned)

    def all_logits(self, network: Network, rows: Rows, unseen: bool = False) -> NDArray[np.float32]:
        """[rows, C] as the network serves: nothing is dropped. `unseen`: classical fits speak only of patients whom they
        never saw."""
        network.eval()
        with torch.inference_mode():
            parts = [
                self._logits(network, rows[first : first + SCORED_AT_ONCE], unseen).numpy()
                for first in range(0, len(rows), SCORED_AT_ONCE)
            ]
        return np.concatenate(parts)

    def logits(self, network: Network, rows: Rows, recipe: Recipe, rng: np.random.Generator) -> Tensor:
        """[B, C] as in training: modalities and signals go missing, scans that say nothing come in, and classical
        fits speak only of patients whom they never saw."""
        e = self.examples
        present = e.present[rows].copy()
        age_h = e.age_h[rows].copy()
        picture_at = e.picture_at[rows].copy()
        if recipe.plain_scans and len(self.plain):
            plain = (rng.random(len(rows)) < recipe.plain_scans) & (picture_at < 0)
            picture_at[plain] = rng.choice(self.plain, int(plain.sum()))
            present[plain, _SCANS_AT] = 1
            # of every age alike on the fusion's own scale
            age_h[plain, _SCANS_AT] = np.expm1(rng.random(int(plain.sum())) * np.log1p(HOURS))
        for name in MODALITIES:
            slots = np.array([slot == name for slot in SLOTS])
            gone = (rng.random(len(rows)) < recipe.drop_modality) & present[:, ~slots].any(1)
            present[np.ix_(gone, slots)] = 0
        window = without_signals(e.window(rows), recipe.drop_signals, rng)
        vitals = self._vitals(network, window, rows)
        return self._fused(network, vitals, rows, present, age_h, picture_at, self.spoken)

    def vitals_odds(self, network: Network, rows: Rows) -> NDArray[np.float32]:
        """[rows, C] what the vitals token ends with, of fits that never saw the patient; 0 without vitals or a fit."""
        told = np.zeros((len(rows), len(CONDITIONS)), np.float32)
        columns = [network.architecture.conditions.index(name) for name in network.architecture.of_vitals]
        if columns:
            network.eval()
            with torch.inference_mode():
                for first in range(0, len(rows), SCORED_AT_ONCE):
                    asked = rows[first : first + SCORED_AT_ONCE]
                    token = self._vitals(network, self.examples.window(asked), asked)
                    told[first : first + SCORED_AT_ONCE, columns] = token[:, -len(columns) :] / ODDS
        return told * self.examples.present[rows, :1]

    def _vitals(self, network: Network, window: WindowBatch, rows: Rows) -> Tensor:
        """[rows, D] by fits that never saw the rows' patients."""
        (bins, summary), vitals, odds = _tensors(window), network.vitals, []
        with torch.no_grad():
            known = vitals.known(summary)
            told = vitals.summarised(summary, known)
            if self.learning is not None:
                unseen = _of_fold(vitals.odds, self.learning.fits, self.learning.fold[rows])
                odds.append(unseen(vitals.hand(summary, known), told))
            if self.spoken is not None and vitals.evidence is not None:
                odds.append(_of_fold(vitals.evidence, self.spoken.vitals, self.spoken.fold[rows])(told))
        return vitals.encoded(bins, told, odds)

    def _logits(self, network: Network, rows: Rows, unseen: bool) -> Tensor:
        e, spoken = self.examples, self.spoken if unseen else None
        window = e.window(rows)
        vitals = self._vitals(network, window, rows) if unseen else network.vitals(*_tensors(window))
        return self._fused(network, vitals, rows, e.present[rows], e.age_h[rows], e.picture_at[rows], spoken)

    def _fused(
        self,
        network: Network,
        vitals: Tensor,
        rows: Rows,
        present: NDArray[np.float32],
        age_h: NDArray[np.float32],
        picture_at: Rows,
        spoken: Spoken | None = None,
    ) -> Tensor:
        e = self.examples
        tokens = torch.zeros(len(rows), len(SLOTS), network.architecture.width)
        tokens[:, 0] = vitals
        for place in range(MAX_NOTES):
            at = e.note_at[rows, place]
            have = np.flatnonzero((at >= 0) & (present[:, _NOTES_AT + place] > 0))
            told = self.notes[at[have]]
            if spoken is not None:
                told = ending_with(spoken.notes[spoken.fold[rows[have]], at[have]], told)
            tokens[have, _NOTES_AT + place] = told
        have = np.flatnonzero((picture_at >= 0) & (present[:, _SCANS_AT] > 0))
        told = self.scans[picture_at[have]]
        if spoken is not None:  # another patient's picture says nothing
            own = torch.from_numpy(picture_at[have] == e.picture_at[rows[have]]).unsqueeze(1)
            told = ending_with(spoken.scans[spoken.fold[rows[have]], picture_at[have]] * own, told)
        tokens[have, _SCANS_AT] = told
        return network.fusion(tokens, torch.from_numpy(present), torch.from_numpy(age_h))


def _evenly(examples: Examples, rows: Rows | Sequence[int]) -> Rows:
    """The rows' pictures, those of the rarer kinds so many times over that each kind is as frequent."""
    at = np.unique(examples.picture_at[rows])
    at = at[at >= 0]
    kind = examples.kinds[at].argmax(1)
    most = np.bincount(kind).max(initial=0)
    return np.concatenate([np.resize(at[kind == one], most) for one in np.unique(kind)]) if most else at


def _tensors(window: WindowBatch) -> list[Tensor]:
    return [torch.from_numpy(getattr(window, name)) for name in WINDOW_FIELDS]


def _of_fold(served: nn.Module, inner: Sequence[nn.Module], fold: Rows) -> Callable[..., Tensor]:
    """What each row's own fit says of it; the served one, where all are blind to the row."""

    def told(*asked: Tensor) -> Tensor:
        found, of_row = served(*asked), torch.from_numpy(fold).unsqueeze(1)
        for number, fit in enumerate(inner):
            found = torch.where(of_row == number, fit(*asked), found)
        return found

    return told


def without_signals(window: WindowBatch, most: float, rng: np.random.Generator) -> WindowBatch:
    """In half of the rows signals are gone, as if never measured: a share of them, up to `most`."""
    b = len(window.summary)
    rate = rng.random((b, 1)) * most * (rng.random((b, 1)) < 0.5)
    keep = (rng.random((b, V)) >= rate).astype(np.float32)
    return WindowBatch(window.bins * np.tile(keep, 2)[:, None], window.summary * keep[:, None])
