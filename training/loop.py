"""Training: examples, rows and a recipe with its seed; out comes a network, a tokenizer, calibration and thresholds.

Owns no split and no figures: `cohort.py` says which rows, `metrics.py` and `crossval.py` measure. Under torchrun
(`WORLD_SIZE` is set) every process takes its share of each batch and gradients are averaged.
"""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, distributed, nn

from models.calibration import Calibration
from models.conditions import CONDITIONS, NAMES
from models.conformal import Conformal, fit
from models.network import Architecture, Network
from training import documents, evidence, head, imagenet, lsa
from training.batches import Batches, draw, pool
from training.calibrating import choose_shares, choose_thresholds, fit_calibration, kept_recall
from training.checkpoint import Progress, restore, save
from training.dataset import Examples
from training.documents import Views
from training.evidence import Spoken
from training.odds import Learning, fit_odds
from training.recipes import Recipe
from training.scales import fit_scales

Rows = NDArray[np.int64]
Report = Callable[[str], None]
_UNKNOWN = "[UNK]"


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run made."""

    network: Network
    tokenizer: Tokenizer
    calibration: Calibration
    thresholds: Mapping[str, Mapping[str, float]]
    conformal: Conformal
    recall: Mapping[str, Mapping[str, float]]
    """Share of validation patients' rows with the event, hours or snapshots, that alert at each threshold (`kept_recall`)."""
    share: NDArray[np.float32]
    """[C] of its own logits what the network was left with (`choose_shares`); the rest of a logit is classical fits'."""
    epochs: int


def make_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """A WordPiece tokenizer of the training texts; id 0 is padding, 1 unknown. The same texts give the same tokenizer.

    The trainer numbers letters within a word as it meets them, words in no fixed order, and breaks ties by number: so
    they are numbered beforehand.
    """
    normalizer = normalizers.BertNormalizer()
    letters = sorted({letter for text in texts for letter in normalizer.normalize_str(text) if not letter.isspace()})
    learned = Tokenizer(models.WordPiece(unk_token=_UNKNOWN))
    learned.normalizer, learned.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        special_tokens=["[PAD]", _UNKNOWN, *(f"##{letter}" for letter in letters)],
        show_progress=False,
        min_frequency=2,
    )
    learned.train_from_iterator(texts, trainer)
    tokenizer = Tokenizer(models.WordPiece(learned.get_vocab(), unk_token=_UNKNOWN))  # nothing in a text is special
    tokenizer.normalizer, tokenizer.pre_tokenizer = learned.normalizer, learned.pre_tokenizer
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
            linear=recipe.linear,
            fusion=recipe.fusion,
        )
    )
    learned, judged = pool(examples, train_rows, recipe, rng), pool(examples, validation_rows, recipe, rng)
    fit_scales(network, examples, learned)
    learning, both = None, np.concatenate([learned, judged])
    if recipe.boosted:
        learning = fit_odds(network.vitals, recipe.boosted, examples, both, recipe.seed, report, recipe.bags)
    seen, spoken = _taught_documents(network, tokenizer, examples, learned, judged, recipe, report, seen)
    batches = _batches(network, tokenizer, examples, seen, learned, learning, spoken)
    believed = _believed(recipe, learning)
    if spoken is not None:
        if learning is not None:
            evidence.centre(network, learning, examples, both, recipe.seed)
        told = partial(batches.vitals_odds, network)
        weighed = evidence.fit_trust(network, recipe.linear, examples, spoken, told, both, recipe.seed, report)
        believed |= dict.fromkeys(weighed, 0.0)
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
        progress.judge(_judged(batches, candidate, progress.average, judged, judged_labels))
    while progress.epoch < recipe.epochs and progress.bad < max(1, recipe.patience):
        started = time.perf_counter()
        network.train()
        order = draw(examples, learned, recipe, rng)
        for first in range(0, len(order), recipe.batch):
            rows = _mine(order[first : first + recipe.batch])
            if len(rows) > 1:
                optimiser.zero_grad()
                labels = torch.from_numpy(examples.taught[rows])
                _loss(batches.logits(network, rows, recipe, rng), labels).backward()
                _share_gradients(network)
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                schedule.step()
                _follow(progress.average, network, recipe.average)
        progress.epoch += 1
        value = _judged(batches, candidate, progress.average, judged, judged_labels)
        progress.judge(value)
        report(
            f"epoch {progress.epoch}/{recipe.epochs}: validation loss {value:.4f}, {time.perf_counter() - started:.0f} s"
        )
        if checkpoint is not None and _rank() == 0:
            save(checkpoint, progress, recipe)
    network.load_state_dict(progress.best_state)
    share = np.ones(len(NAMES), np.float32)
    if spoken is not None:
        share = _temper(network, batches, judged, report)
    logits, labels = batches.all_logits(network, validation_rows, unseen=True), examples.labels[validation_rows]
    cluster = examples.cluster[validation_rows]
    calibration = fit_calibration(logits, labels, cluster, recipe.bootstraps, recipe.seed, believed)
    probability = calibration.probability(logits)
    thresholds = choose_thresholds(probability, labels)
    sets = fit(probability, labels, cluster)
    recall = kept_recall(probability, labels, thresholds, sets)
    return Trained(network, tokenizer, calibration, thresholds, sets, recall, share, progress.epoch)


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
    judged: Rows,
    recipe: Recipe,
    report: Report,
    seen: Views | None,
) -> tuple[Views, Spoken | None]:
    """The pictures' views and what documents say out of fold, after the note and scan encoders have learned from these
    rows; of the judged ones only classical fits learn, each blind to whom it is asked about."""
    ids = examples.note_ids(tokenizer)
    known = np.unique(examples.note_at[rows][examples.note_at[rows] >= 0])
    if len(known):
        lsa.fill(network.notes.bag, ids[known], recipe.seed)
    if len(examples.pictures):
        imagenet.load_trunk(network.scans.trunk)
    seen = seen or documents.views(network.scans.trunk, examples.pictures)
    spoken, targets = None, examples.labels
    if recipe.linear:
        both = np.concatenate([rows, judged])
        spoken = evidence.fit_evidence(network, recipe.linear, examples, ids, seen, both, recipe.seed, report)
        targets = evidence.soft_labels(recipe.linear, examples, spoken, rows)
    documents.learn_notes(network.notes, examples, ids, rows, targets, recipe.seed, report)
    learned = documents.learn_scans(network.scans, examples, seen, rows, examples.labels, recipe.seed, report)
    if learned is not None and spoken is not None:
        head.take(network.scans, learned, recipe.linear, examples, seen, spoken, judged, recipe.seed, report)
    return seen, spoken


def _batches(
    network: Network,
    tokenizer: Tokenizer,
    examples: Examples,
    seen: Views | None,
    learned: Rows | None = None,
    learning: Learning | None = None,
    spoken: Spoken | None = None,
) -> Batches:
    seen = seen or documents.views(network.scans.trunk, examples.pictures)
    notes = documents.note_tokens(network.notes, examples.note_ids(tokenizer))
    scans = documents.scan_tokens(network.scans, seen, examples.kinds)
    return Batches(examples, notes, scans, learned, learning, spoken)


@torch.no_grad()
def _temper(network: Network, batches: Batches, rows: Rows, report: Report) -> NDArray[np.float32]:
    """Keeps as much of the network's own logits as these rows bear out; gives that share [C]."""
    whole, last = batches.all_logits(network, rows, unseen=True), network.fusion.head[-1]
    learned = last.weight.clone(), last.bias.clone()
    last.weight.zero_()
    last.bias.zero_()
    told = batches.all_logits(network, rows, unseen=True)
    examples = batches.examples
    share = choose_shares(told, whole - told, examples.labels[rows], examples.cluster[rows])
    kept = torch.from_numpy(share)
    last.weight.copy_(learned[0] * kept[:, None])
    last.bias.copy_(learned[1] * kept)
    report("the network's own share: " + ", ".join(f"{one:g}" for one in share))
    return share


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
) -> float:
    """The validation loss of these weights."""
    network.load_state_dict(dict(weights))
    return _mean(float(_loss(torch.from_numpy(batches.all_logits(network, rows, unseen=True)), labels)))


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
