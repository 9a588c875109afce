"""Training: examples, rows and a recipe with its seed; out comes a network, a tokenizer, calibration and thresholds.

Owns no split and no figures: `cohort.py` says which rows, `metrics.py` and `crossval.py` measure. Under torchrun
(`WORLD_SIZE` is set) every process takes its share of each batch and gradients are averaged.
"""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, distributed, nn

from models.calibration import Calibration
from models.conditions import CONDITIONS
from models.conformal import Conformal, fit
from models.network import Architecture, Network
from training import documents, imagenet, lsa
from training.batches import Batches, draw, pool
from training.calibrating import choose_thresholds, fit_calibration
from training.checkpoint import Progress, restore, save
from training.dataset import Examples
from training.documents import Views
from training.note_teacher import soft_labels
from training.odds import Learning, fit_odds
from training.recipes import Recipe
from training.scales import fit_scales

Rows = NDArray[np.int64]
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run made."""

    network: Network
    tokenizer: Tokenizer
    calibration: Calibration
    thresholds: Mapping[str, Mapping[str, float]]
    conformal: Conformal
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
    train_rows: Rows,
    validation_rows: Rows,
    recipe: Recipe,
    report: Report,
    checkpoint: Path | None = None,
    seen: Views | None = None,
) -> Trained:
    """Runs the recipe on the training rows; stops, calibrates, sets thresholds and conformal cuts on the validation rows.

    The encoders of notes and scans learn first, alone (`documents.py`), then the vitals' encoder and the fusion over
    their finished tokens. `seen` are the pictures' views, where another run has made them.

    Classical fits whose log odds the encoder serves learn from both parts; the validation rows hear fits that never saw
    their patient. Nothing of any other row is looked at. Deterministic for a seed on one thread. With a `checkpoint` file an
    interrupted run goes on after its last whole epoch, and ends as it would have.
    """
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    known = sorted({int(i) for i in examples.note_at[train_rows].ravel() if i >= 0})
    tokenizer = make_tokenizer([examples.texts[i] for i in known], recipe.vocabulary)
    network = Network(
        Architecture(
            width=recipe.width,
            vocabulary=recipe.vocabulary,
            vitals_layers=recipe.vitals_layers,
            vitals_dropout=recipe.dropout,
            boosted=recipe.boosted,
            trees=recipe.trees,
            fusion=recipe.fusion,
        )
    )
    learned, judged = pool(examples, train_rows, recipe, rng), pool(examples, validation_rows, recipe, rng)
    fit_scales(network, examples, learned)
    learning = None
    if recipe.boosted:
        both = np.concatenate([learned, judged])
        learning = fit_odds(network.vitals, recipe.boosted, examples, both, recipe.seed, report)
    seen = _taught_documents(network, tokenizer, examples, learned, recipe, report, seen)
    batches = _batches(network, tokenizer, examples, seen)
    together = [*network.vitals.parameters(), *network.fusion.parameters()]
    optimiser = torch.optim.AdamW(together, recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * math.ceil(len(draw(examples, learned, recipe, rng)) / recipe.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _cosine(steps) if recipe.cosine else lambda _: 1.0)
    judged_labels = torch.from_numpy(examples.labels[judged])
    candidate = Network(network.architecture)  # before the generators are set back: it draws its first weights
    progress = Progress(network, optimiser, schedule, rng, average=_copy(network))
    if checkpoint is not None:
        restore(checkpoint, progress, recipe)
    if progress.epoch == 0:  # what the classical fits say alone is the first to be judged
        progress.judge(_judged(batches, candidate, progress.average, judged, judged_labels, learning))
    while progress.epoch < recipe.epochs and progress.bad < max(1, recipe.patience):
        started = time.perf_counter()
        network.train()
        order = draw(examples, learned, recipe, rng)
        for first in range(0, len(order), recipe.batch):
            rows = _mine(order[first : first + recipe.batch])
            if len(rows) > 1:
                optimiser.zero_grad()
                labels = torch.from_numpy(examples.labels[rows])
                _loss(batches.logits(network, rows, recipe, rng, learning), labels).backward()
                _share_gradients(network)
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                schedule.step()
                _follow(progress.average, network, recipe.average)
        progress.epoch += 1
        value = _judged(batches, candidate, progress.average, judged, judged_labels, learning)
        progress.judge(value)
        report(
            f"epoch {progress.epoch}/{recipe.epochs}: validation loss {value:.4f}, {time.perf_counter() - started:.0f} s"
        )
        if checkpoint is not None and _rank() == 0:
            save(checkpoint, progress, recipe)
    network.load_state_dict(progress.best_state)
    logits, labels = batches.all_logits(network, validation_rows, learning), examples.labels[validation_rows]
    group = examples.group[validation_rows]
    calibration = fit_calibration(logits, labels, group, recipe.bootstraps, recipe.seed, _believed(recipe, learning))
    probability = calibration.probability(logits)
    thresholds = choose_thresholds(probability, labels)
    sets = fit(probability, labels, group)
    return Trained(network, tokenizer, calibration, thresholds, sets, progress.epoch)


def _believed(recipe: Recipe, learning: Learning | None) -> dict[str, float]:
    """By condition with log odds of classical fits, how far they are shifted: of an hourly one few of the other hours
    were learned from."""
    if learning is None:
        return {}
    hourly = {condition.name for condition in CONDITIONS if condition.hourly}
    return {name: math.log(recipe.other_hours) if name in hourly else 0.0 for name in learning.conditions}


def _taught_documents(
    network: Network,
    tokenizer: Tokenizer,
    examples: Examples,
    rows: Rows,
    recipe: Recipe,
    report: Report,
    seen: Views | None,
) -> Views:
    """The pictures' views, after the note and scan encoders have learned from these rows."""
    ids = examples.note_ids(tokenizer)
    known = np.unique(examples.note_at[rows][examples.note_at[rows] >= 0])
    if len(known):
        lsa.fill(network.notes.bag, ids[known], recipe.seed)
        targets = soft_labels(examples, rows, recipe.seed)
        documents.learn_notes(network.notes, examples, ids, rows, targets, recipe.seed, report)
    if len(examples.pictures):
        imagenet.load_trunk(network.scans.trunk)
    seen = seen or documents.views(network.scans.trunk, examples.pictures)
    documents.learn_scans(network.scans, examples, seen, rows, examples.labels, recipe.seed, report)
    return seen


def _batches(network: Network, tokenizer: Tokenizer, examples: Examples, seen: Views | None) -> Batches:
    seen = seen or documents.views(network.scans.trunk, examples.pictures)
    notes = documents.note_tokens(network.notes, examples.note_ids(tokenizer))
    return Batches(examples, notes, documents.scan_tokens(network.scans, seen, examples.kinds))


def predict(trained: Trained, examples: Examples, rows: Rows, seen: Views | None = None) -> NDArray[np.float32]:
    """[rows, C] calibrated probabilities."""
    batches = _batches(trained.network, trained.tokenizer, examples, seen)
    return trained.calibration.probability(batches.all_logits(trained.network, rows))


def _judged(
    batches: Batches,
    network: Network,
    weights: Mapping[str, Tensor],
    rows: Rows,
    labels: Tensor,
    learning: Learning | None,
) -> float:
    """The validation loss of these weights."""
    network.load_state_dict(dict(weights))
    return _mean(float(_loss(torch.from_numpy(batches.all_logits(network, rows, learning)), labels)))


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy over the labels that are known."""
    known = ~torch.isnan(labels)
    return nn.functional.binary_cross_entropy_with_logits(logits[known], labels[known])


def _cosine(steps: int) -> Callable[[int], float]:
    """From a short warm-up to nothing at the last step."""
    warm = max(1, steps // 20)

    def factor(step: int) -> float:
        return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps)))

    return factor


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@torch.no_grad()
def _follow(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    """The moving average takes a step towards the weights; counters and buffers are copied."""
    moving = dict(network.named_parameters())
    for name, tensor in network.state_dict().items():
        if name in moving:
            average[name].lerp_(tensor, 1 - decay)
        else:
            average[name].copy_(tensor)


def _mine(rows: Rows) -> Rows:
    """This process's share of a batch."""
    if not distributed.is_initialized():
        return rows
    return rows[distributed.get_rank() :: distributed.get_world_size()]


def _share_gradients(network: nn.Module) -> None:
    """The mean of every process's gradients."""
    if distributed.is_initialized():
        for parameter in network.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)
            parameter.grad /= distributed.get_world_size()


def _mean(value: float) -> float:
    """Over all processes, so that they stop at the same epoch."""
    if not distributed.is_initialized():
        return value
    both = torch.tensor(value)
    distributed.all_reduce(both)
    return float(both) / distributed.get_world_size()


def _rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def join_processes() -> int:
    """This process's rank: 0 alone, or under torchrun after it has met the others."""
    if "WORLD_SIZE" in os.environ:
        distributed.init_process_group("gloo")
    return _rank()
