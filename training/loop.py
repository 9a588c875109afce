"""Training: examples, rows and a recipe with its seed; out comes a network, a tokenizer, calibration and thresholds.

Owns no split and no figures: `cohort.py` says which rows, `metrics.py` and `crossval.py` measure.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn

from models.calibration import Calibration
from models.conditions import NAMES
from models.network import Architecture, Network
from models.window import MAX_NOTES, MODALITIES, SLOTS
from training.dataset import Examples
from training.recipes import Recipe

NEVER = 1.5
"""A threshold above every probability."""
_NOTES_AT, _SCANS_AT = SLOTS.index("notes"), SLOTS.index("scans")


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run made."""

    network: Network
    tokenizer: Tokenizer
    calibration: Calibration
    thresholds: Mapping[str, Mapping[str, float]]
    epochs: int


def make_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """A WordPiece tokenizer of the training texts; id 0 is padding, 1 unknown."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 - not a password
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, special_tokens=["[PAD]", "[UNK]"], show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train(
    examples: Examples,
    train_rows: NDArray[np.int64],
    validation_rows: NDArray[np.int64],
    recipe: Recipe,
    report: Callable[[str], None],
) -> Trained:
    """Runs the recipe on the training rows; stops, calibrates and sets thresholds on the validation rows.

    Nothing of any other row is looked at. Deterministic for a seed on one thread.
    """
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    known = sorted({int(i) for i in examples.note_at[train_rows].ravel() if i >= 0})
    tokenizer = make_tokenizer([examples.texts[i] for i in known], recipe.vocabulary)
    network = Network(Architecture(width=recipe.width, vocabulary=recipe.vocabulary, fusion=recipe.fusion))
    _normalise(network, examples, train_rows)
    batches = _Batches(examples, examples.note_ids(tokenizer))
    optimiser = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * math.ceil(len(train_rows) / recipe.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps) if recipe.cosine else None
    best, best_state, bad, epoch = math.inf, None, 0, 0
    for epoch in range(1, recipe.epochs + 1):
        started = time.perf_counter()
        network.train()
        order = rng.permutation(train_rows)
        for first in range(0, len(order), recipe.batch):
            rows = order[first : first + recipe.batch]
            if len(rows) < 2:
                continue
            optimiser.zero_grad()
            loss = _loss(batches.logits(network, rows, recipe, rng), batches.labels(rows))
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            if schedule:
                schedule.step()
        value = float(
            _loss(torch.from_numpy(batches.all_logits(network, validation_rows)), batches.labels(validation_rows))
        )
        report(f"epoch {epoch}/{recipe.epochs}: validation loss {value:.4f}, {time.perf_counter() - started:.0f} s")
        if value < best:
            best, bad = value, 0
            best_state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        else:
            bad += 1
            if bad >= recipe.patience:
                break
    assert best_state is not None
    network.load_state_dict(best_state)
    network.eval()
    logits, labels = batches.all_logits(network, validation_rows), examples.labels[validation_rows]
    calibration = fit_calibration(logits, labels, recipe.bootstraps, recipe.seed)
    thresholds = choose_thresholds(calibration.probability(logits), labels)
    return Trained(network, tokenizer, calibration, thresholds, epoch)


def predict(trained: Trained, examples: Examples, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """[rows, C] calibrated probabilities."""
    batches = _Batches(examples, examples.note_ids(trained.tokenizer))
    return trained.calibration.probability(batches.all_logits(trained.network, rows))


class _Batches:
    """Rows of the examples as tensors, and the network over them."""

    def __init__(self, examples: Examples, ids: NDArray[np.int64]) -> None:
        self.examples, self.ids = examples, ids

    def labels(self, rows: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.examples.labels[rows])

    def all_logits(self, network: Network, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        network.eval()
        with torch.inference_mode():
            parts = [self.logits(network, rows[i : i + 256]).numpy() for i in range(0, len(rows), 256)]
        return np.concatenate(parts)

    def logits(
        self,
        network: Network,
        rows: NDArray[np.int64],
        recipe: Recipe | None = None,
        rng: np.random.Generator | None = None,
    ) -> Tensor:
        """[B, C]; with a recipe, modalities are dropped and presence-neutral scans added, as in training."""
        e = self.examples
        present = e.present[rows].copy()
        age_h = e.age_h[rows].copy()
        picture_at = e.picture_at[rows].copy()
        if recipe is not None and rng is not None:
            if recipe.plain_scans and len(e.pictures):
                plain = (rng.random(len(rows)) < recipe.plain_scans) & (picture_at < 0)
                picture_at[plain] = rng.integers(0, len(e.pictures), int(plain.sum()))
                present[plain, _SCANS_AT] = 1
                age_h[plain, _SCANS_AT] = rng.random(int(plain.sum())) * 48
            for name in MODALITIES:
                gone = rng.random(len(rows)) < recipe.drop_modality
                present[np.ix_(gone, [slot == name for slot in SLOTS])] = 0
        tokens = torch.zeros(len(rows), len(SLOTS), network.architecture.width)
        window = (torch.from_numpy(a[rows]) for a in (e.values, e.mask, e.last, e.last_age_h, e.last_mask))
        tokens[:, 0] = network.vitals(*window)
        for place in range(MAX_NOTES):
            at = e.note_at[rows, place]
            have = np.flatnonzero((at >= 0) & (present[:, _NOTES_AT + place] > 0))
            if len(have):
                tokens[have, _NOTES_AT + place] = network.notes(torch.from_numpy(self.ids[at[have]]))
        have = np.flatnonzero((picture_at >= 0) & (present[:, _SCANS_AT] > 0))
        if len(have):
            unique, back = np.unique(picture_at[have], return_inverse=True)
            if len(unique) > 1 or not network.training:
                pixels = torch.from_numpy(e.pictures[unique]).unsqueeze(1)
                tokens[have, _SCANS_AT] = network.scans(pixels, torch.from_numpy(e.kinds[unique]))[back]
        return network.fusion(tokens, torch.from_numpy(present), torch.from_numpy(age_h))


def _normalise(network: Network, examples: Examples, rows: NDArray[np.int64]) -> None:
    """Means and deviations of the training patients' last values."""
    mask = examples.last_mask[rows]
    count = np.maximum(mask.sum(0), 1)
    mean = (examples.last[rows] * mask).sum(0) / count
    std = np.sqrt((((examples.last[rows] - mean) * mask) ** 2).sum(0) / count)
    network.vitals.mean.copy_(torch.from_numpy(mean))
    network.vitals.std.copy_(torch.from_numpy(np.where(std > 1e-3, std, 1.0).astype(np.float32)))


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy over the labels that are known."""
    known = ~torch.isnan(labels)
    return nn.functional.binary_cross_entropy_with_logits(logits[known], labels[known])


def fit_calibration(
    logits: NDArray[np.floating], labels: NDArray[np.floating], bootstraps: int, seed: int
) -> Calibration:
    """Platt scaling per condition, and again on `bootstraps` samples of the rows."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(seed)
    scale, shift = np.ones((bootstraps + 1, labels.shape[1])), np.zeros((bootstraps + 1, labels.shape[1]))
    for column in range(labels.shape[1]):
        known = np.flatnonzero(~np.isnan(labels[:, column]))
        for draw in range(bootstraps + 1):
            rows = known if draw == 0 else rng.choice(known, len(known))
            if 0 < labels[rows, column].sum() < len(rows):
                fit = LogisticRegression(C=1e6).fit(logits[rows, column : column + 1], labels[rows, column])
                scale[draw, column], shift[draw, column] = fit.coef_[0, 0], fit.intercept_[0]
    return Calibration(scale, shift)


def choose_thresholds(probability: NDArray[np.floating], labels: NDArray[np.floating]) -> dict[str, dict[str, float]]:
    """Per condition on validation patients: watch keeps 80 % recall, warning 50 %, critical 20 %.

    A condition that no validation patient has gets thresholds that no score reaches: it was not learned, so it is silent.
    """
    found = {}
    for column, condition in enumerate(NAMES):
        positive = probability[labels[:, column] == 1, column]
        levels = {"watch": 0.8, "warning": 0.5, "critical": 0.2}
        found[condition] = {
            level: float(np.quantile(positive, 1 - recall)) if len(positive) else NEVER
            for level, recall in levels.items()
        }
    return found
