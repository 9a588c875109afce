"""Fits what each modality says by itself (`models/evidence.py`) and how far the fusion trusts each modality.

Of every condition and modality with enough labelled patients: logistic regression with a ridge penalty. Five fits, each
without a fifth of the patients, weigh penalties and are what the network learns with: no patient's log odds come from
a fit that saw the patient. Trust is late fusion, fitted on those out-of-fold log odds, and starts from weights of 1, which
few patients hardly move. None sees a row outside the training rows. Shapes: N rows, T texts, P pictures, G conditions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from scipy.sparse import csr_array
from torch import Tensor

from models.conditions import NAMES
from models.evidence import MOST, Evidence
from models.network import Network
from models.pieces import PieceEvidence
from models.tokens import SENTENCES, WORDS
from models.vitals import INPUTS
from models.window import MODALITIES, SLOTS
from training.cohort import patient_folds, patient_shares
from training.dataset import Examples
from training.documents import AT_ONCE, Views
from training.odds import LATE, Learning, summarised
from training.peers import training_rows

Array = NDArray[np.floating]
Features = Array | csr_array
Rows = NDArray[np.int64]
FOLDS = 5
FEWEST = 8
"""Fewer patients than this with or without the condition teach a modality nothing of it."""
PENALTIES = {"vitals": (3e-4, 1e-3, 3e-3, 1e-2), "notes": (1e-3, 3e-3, 1e-2, 3e-2), "scans": (1e-4, 1e-3, 1e-2, 1e-1)}
"""Inverse strengths (scikit-learn's C): of normal scores, of pieces that are there or not, of features of spread 1."""
NEGLIGIBLE = 0.02
_SCALED = ("scans",)
TRUST_SPREAD = 0.5
PRIOR_SPREAD, TAIL = 0.3, 3
"""Spreads of what is believed of trust, normal around 1, and of the base rate's log odds, Student's t of so many degrees
of freedom: near one half a few patients do not move it, and a rare condition is believed as rare as it is. So few
patients' own share of events moves a score little; with its opposite in the patients who are tested it would outweigh
what their documents say."""
TEACHING = 0.7
"""How far the note encoder's labels give way to what its evidence says out of fold."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """What was said of learned rows by fits that never saw them.

    fold: [N], -1 of rows not learned from. vitals: each fold's fits. notes, scans: [FOLDS, T or P, G], each document by
    each fold's fits.
    """

    fold: NDArray[np.int64]
    vitals: Sequence[Evidence]
    notes: Tensor
    scans: Tensor


def fit_evidence(
    network: Network,
    conditions: Sequence[str],
    examples: Examples,
    ids: NDArray[np.int64],
    seen: Views,
    rows: Rows,
    seed: int,
    report: Callable[[str], None],
) -> Spoken:
    """Fills the evidence of `network`'s note and scan encoders in place from these rows.

    ids: [T, S, W] of the texts.
    """
    fold = patient_folds(examples.group, examples.stratum, rows, FOLDS, seed)
    documents = {"notes": pieces_in(network.notes.evidence, ids), "scans": seen.features.numpy()}
    told = {name: torch.zeros(FOLDS, features.shape[0], len(conditions)) for name, features in documents.items()}
    rest = network.architecture.of_vitals[len(network.architecture.boosted) :]
    vitals = [Evidence(INPUTS, len(rest)) for _ in range(FOLDS)]
    for name, asked in (("vitals", rest), ("notes", conditions), ("scans", conditions)):
        for place, condition in enumerate(asked):
            column = NAMES.index(condition)
            late = LATE if name == "notes" else 1  # notes grow: an earlier look at a patient is another text
            learned = training_rows(examples, _with_modality(examples, rows, name), column, seed, late=late)
            if not _enough(examples, learned, column):
                continue
            if name == "vitals":
                mean = summarised(network.vitals, examples, learned)
            else:
                mean = _mean_of(examples, learned, name, documents[name])
            label, cluster, at = examples.labels[learned, column], examples.cluster[learned], fold[learned]
            mixed = mixture(mean, label, at, cluster, name)
            said = ", ".join(f"{one:g} ({share:.2f})" for one, share in mixed.items())
            report(f"{name} of {condition}: {len(learned)} rows, C {said}")
            for number in range(FOLDS):
                others = at != number
                weight, bias = linear(mean[others], label[others], mixed, name)
                if name == "vitals":
                    _put(vitals[number], place, weight, bias)
                else:
                    said_by_fold = np.clip(documents[name] @ weight + bias, -MOST, MOST)
                    told[name][number, :, place] = torch.from_numpy(said_by_fold)
            _put(getattr(network, name).evidence, place, *linear(mean, label, mixed, name))
    return Spoken(fold, vitals, told["notes"], told["scans"])


def pieces_in(evidence: PieceEvidence, ids: NDArray[np.int64]) -> csr_array:
    """[T, I] of token ids [T, S, W]: 1 for every piece and pair of a text."""
    flat, rows, places = torch.from_numpy(ids.reshape(len(ids), SENTENCES * WORDS)), [], []
    with torch.inference_mode():
        for first in range(0, len(flat), AT_ONCE):
            place, counts = evidence.found(flat[first : first + AT_ONCE])
            row, at = torch.nonzero(counts, as_tuple=True)
            rows.append((row + first).numpy())
            places.append(place[row, at].numpy())
    found = (np.concatenate(rows), np.concatenate(places)) if rows else ([], [])
    return csr_array((np.ones(len(found[0]), np.float32), found), shape=(len(ids), len(evidence.weight)))


def _put(evidence: Evidence, place: int, weight: NDArray[np.float32], bias: float) -> None:
    evidence.weight[: len(weight), place] = torch.from_numpy(weight)
    evidence.bias[place] = bias


def _with_modality(examples: Examples, rows: Rows, name: str) -> Rows:
    """The rows where something of the modality is at hand."""
    return rows[examples.present[np.ix_(rows, _slots(name))].any(1)]


def _enough(examples: Examples, rows: Rows, column: int) -> bool:
    """Whether at least `FEWEST` patients have the condition, and as many have not."""
    label, cluster = examples.labels[rows, column], examples.cluster[rows]
    return min(len(np.unique(cluster[label == value])) for value in (0, 1)) >= FEWEST


def linear(
    features: Features, label: Array, penalties: Mapping[float, float], name: str
) -> tuple[NDArray[np.float32], float]:
    """Weight [I] and bias of the log odds, had both outcomes been as frequent: the weighted mean of a fit a penalty."""
    from sklearn.linear_model import LogisticRegression

    inputs = features.shape[1]
    mean, spread, scaled = np.zeros(inputs), np.ones(inputs), features
    if isinstance(features, np.ndarray):
        mean = features.mean(0)
        if name in _SCALED:
            spread = features.std(0) + 1e-3
        scaled = (features - mean) / spread
    weight, bias = np.zeros(inputs), 0.0
    for penalty, share in penalties.items():
        fitted = LogisticRegression(C=penalty, class_weight="balanced", max_iter=300, tol=1e-3).fit(scaled, label)
        weight += share * fitted.coef_[0] / spread
        bias += share * float(fitted.intercept_[0])
    return weight.astype(np.float32), bias - float(weight @ mean)


def mixture(features: Features, label: Array, fold: Rows, cluster: NDArray[np.str_], name: str) -> dict[float, float]:
    """Penalties and their weights, of sum 1, by how well fits without a fold of patients tell of them, both outcomes counting as
    much: many patients single out the best penalty, few leave a mean over several (Yao et al. 2018, pseudo-BMA)."""
    share = patient_shares(cluster)
    sums = [share[label == value].sum() for value in (0, 1)]
    share *= min(sums) / np.where(label == 1, sums[1], sums[0])
    losses = []
    for penalty in PENALTIES[name]:
        told = np.zeros(len(label))
        for number in range(FOLDS):
            rest = fold != number
            weight, bias = linear(features[rest], label[rest], {penalty: 1.0}, name)
            told[~rest] = features[~rest] @ weight + bias
        losses.append(share @ np.logaddexp(0, np.where(label == 1, -told, told)))
    weight = np.exp(min(losses) - np.array(losses))
    weight[weight < NEGLIGIBLE * weight.sum()] = 0.0
    return {one: float(share) for one, share in zip(PENALTIES[name], weight / weight.sum(), strict=True) if share}


def fit_trust(
    network: Network,
    conditions: Sequence[str],
    examples: Examples,
    spoken: Spoken,
    vitals: Callable[[Rows], NDArray[np.float32]],
    rows: Rows,
    seed: int,
    report: Callable[[str], None],
) -> list[str]:
    """Fills the fusion's trust and prior in place from these rows; returns the conditions it had enough to fit for.

    vitals: rows to [rows, C] log odds by the vitals, out of fold, above the prior that the fusion holds already; 0 where
    there are none.
    """
    fusion, fitted = network.fusion, []
    for place, condition in enumerate(conditions):
        column = NAMES.index(condition)
        learned = training_rows(examples, rows, column, seed)
        if not _enough(examples, learned, column):
            continue
        documents = [spoken_of(examples, spoken, name, place, learned) for name in MODALITIES[1:]]
        told = np.stack([vitals(learned)[:, column], *documents], 1)
        known = told.any(0)
        if not known.any():
            continue
        label, cluster = examples.labels[learned, column], examples.cluster[learned]
        trust, prior = late_fusion(told, label, cluster, float(fusion.prior[column]))
        trust[~known] = 0.0
        fusion.trust[:, column] = torch.from_numpy(trust)
        fusion.prior[column] = prior
        said = ", ".join(f"{name} {trust[m]:.2f}" for m, name in enumerate(MODALITIES) if known[m])
        report(f"trust of {condition}: {said}")
        fitted.append(condition)
    return fitted


def centre(network: Network, learning: Learning, examples: Examples, rows: Rows, seed: int) -> None:
    """Takes the base rate of these rows out of the vitals' log odds and makes it the fusion's prior: a patient without
    vitals, or with old ones, is at the base rate, not at one half."""
    for condition in learning.conditions:
        place, column = network.architecture.boosted.index(condition), NAMES.index(condition)
        learned = training_rows(examples, rows, column, seed, other_hours=1.0)
        base, taught = (
            float(special.logit(known[learned, column].mean())) for known in (examples.labels, examples.taught)
        )
        network.fusion.prior[column] = base
        for odds in (network.vitals.odds, *learning.fits):
            odds.trees.start[place] -= taught
            odds.bias[place] -= taught


def soft_labels(conditions: Sequence[str], examples: Examples, spoken: Spoken, rows: Rows) -> NDArray[np.float32]:
    """[N, C] labels of these rows, NaN elsewhere, moved towards what their notes say out of fold.

    So a training patient's note token claims no more than it would of a stranger, and the fusion does not come to trust
    notes beyond their worth. A condition of which notes say nothing stays as it is.
    """
    from sklearn.linear_model import LogisticRegression

    targets = np.full(examples.labels.shape, np.nan, np.float32)
    targets[rows] = examples.labels[rows]
    noted = _with_modality(examples, rows, "notes")
    for place, condition in enumerate(conditions):
        column = NAMES.index(condition)
        at = noted[~np.isnan(examples.labels[noted, column])]
        told = spoken_of(examples, spoken, "notes", place, at)[:, None]
        if told.any():
            label = examples.labels[at, column]
            found = LogisticRegression().fit(told, label).predict_proba(told)[:, 1]  # two numbers: odds to probability
            targets[at, column] = (1 - TEACHING) * label + TEACHING * found
    return targets


def late_fusion(
    told: Array, label: Array, cluster: NDArray[np.str_], base: float = 0.0
) -> tuple[NDArray[np.float32], float]:
    """Weights [M] near 1, none negative, and log odds near `base`, by penalised logistic regression; every patient
    counts once."""
    from scipy.optimize import minimize

    share = patient_shares(cluster)
    design = np.concatenate([told, np.ones((len(told), 1))], 1).astype(np.float64)

    def loss(weight: Array) -> tuple[float, Array]:
        logit, off, shifted = design @ weight, (weight[:-1] - 1) / TRUST_SPREAD, (weight[-1] - base) / PRIOR_SPREAD
        value = share @ (np.logaddexp(0, logit) - label * logit) + 0.5 * off @ off
        value += 0.5 * (TAIL + 1) * np.log1p(shifted**2 / TAIL)
        believed = np.append(off / TRUST_SPREAD, (TAIL + 1) * shifted / (TAIL + shifted**2) / PRIOR_SPREAD)
        return value, design.T @ (share * (0.5 * (1 + np.tanh(logit / 2)) - label)) + believed

    bounds = [(0, None)] * told.shape[1] + [(None, None)]
    start = np.append(np.ones(told.shape[1]), base)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return found[:-1].astype(np.float32), float(found[-1])


def _slots(name: str) -> list[int]:
    return [place for place, slot in enumerate(SLOTS) if slot == name]


def _at(examples: Examples, name: str) -> NDArray[np.int64]:
    """[N, documents of a row] which text or picture, -1: none."""
    at = examples.note_at if name == "notes" else examples.picture_at[:, None]
    return np.where(examples.present[:, _slots(name)[: at.shape[1]]] > 0, at, -1)


def _mean_of(examples: Examples, rows: Rows, name: str, features: Features) -> Features:
    """[rows, I] mean of the features of a row's documents, 0 without any."""
    at = _at(examples, name)[rows]
    row, place = np.nonzero(at >= 0)
    share = 1 / (at >= 0).sum(1)[row]
    return csr_array((share.astype(np.float32), (row, at[row, place])), shape=(len(rows), features.shape[0])) @ features


def spoken_of(examples: Examples, spoken: Spoken, name: str, place: int, rows: Rows) -> NDArray[np.float32]:
    """[rows] mean of what the fits that never saw a row's patient say of its documents; rows that were learned from."""
    at, told = _at(examples, name)[rows], getattr(spoken, name)[:, :, place].numpy()
    if not told.shape[1]:
        return np.zeros(len(rows), np.float32)
    there = at >= 0
    return (told[spoken.fold[rows, None], at] * there).sum(1) / np.maximum(there.sum(1), 1)
