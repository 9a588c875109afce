"""Classical fits as teachers: what they say of the training patients, and of mixtures of two, the network learns from.

A patient's own soft label comes from fits that never saw the patient. Mixtures (some signals of one row, the others of
another; after Fakoor et al. 2020, "Fast, accurate, and simple models for tabular data via augmented distillation") are
told by all fits together. No fit sees a patient outside the training rows; only the network is served.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.conditions import CONDITIONS
from models.window import WindowBatch
from training import note_teacher
from training.cohort import folds
from training.dataset import Examples
from training.hand import Scored, additive, boosted, hand_features
from training.note_teacher import Joint
from training.peers import features_of, training_rows

Rows = NDArray[np.int64]
FOLDS = 4
FEWEST = 300
"""Fewer labelled rows than this teach nothing that the labels do not."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """The fits of one source and condition, one a fold of its patients.

    notes: [N] log odds by the words of each row's notes, 0 where none was asked; joint: what joins both opinions.
    """

    source: str
    column: int
    fits: Sequence[Scored]
    notes: NDArray[np.float32]
    joint: Joint | None


@dataclass(frozen=True, slots=True)
class Teachers:
    """soft: [N, C] what fits that never saw the patient say of it, NaN where none was asked."""

    members: Sequence[Teacher]
    soft: NDArray[np.float32]

    def say(
        self, window: WindowBatch, age_h: NDArray[np.float32], noted: Rows, source: NDArray[np.str_]
    ) -> NDArray[np.float32]:
        """[B, C] the mean of all fits of each row's source, NaN where there is none; with the notes of rows `noted`."""
        told = np.full((len(source), len(CONDITIONS)), np.nan, np.float32)
        features = hand_features(window, age_h)
        for member in self.members:
            rows = np.flatnonzero(source == member.source)
            if len(rows):
                said = np.mean([fit(features[rows]) for fit in member.fits], axis=0)
                told[rows, member.column] = (
                    member.joint(_log_odds(said), member.notes[noted[rows]]) if member.joint else said
                )
        return told


def taught(examples: Examples, rows: Rows, seed: int, report: Callable[[str], None]) -> Teachers:
    """Teachers of every source and condition that has enough labels among these rows."""
    soft = np.full(examples.labels.shape, np.nan, np.float32)
    members = []
    for source in np.unique(examples.source[rows]):
        of_source = rows[examples.source[rows] == source]
        for column, condition in enumerate(CONDITIONS):
            learned = training_rows(examples, of_source, column, seed, other_hours=1.0)
            label = examples.labels[learned, column]
            if len(learned) < FEWEST or not 0 < label.sum() < len(label):
                continue
            report(f"teachers of {source}.{condition.name}: {len(learned)} rows")
            fits = []
            for number, (rest, asked) in enumerate(folds(examples.group[learned], FOLDS, seed)):
                features = features_of(examples, learned[rest])
                fits.append(_blend(features, label[rest], seed + number))
                soft[learned[asked], column] = fits[-1](features_of(examples, learned[asked]))
            notes, joint = np.zeros(len(soft), np.float32), None
            if (examples.note_at[learned] >= 0).any():
                notes[learned] = note_teacher.out_of_fold(examples, learned, column, seed)
                joint = note_teacher.joined(label, _log_odds(soft[learned, column]), notes[learned])
                soft[learned, column] = joint(_log_odds(soft[learned, column]), notes[learned])
            members.append(Teacher(str(source), column, fits, notes, joint))
    return Teachers(members, soft)


def _blend(features: NDArray[np.floating], label: NDArray[np.floating], seed: int) -> Scored:
    """Boosting and the additive fit, averaged as log odds."""
    fits = (boosted(features, label, seed), additive(features, label, seed))

    def blended(asked: NDArray[np.floating]) -> NDArray[np.float32]:
        odds = np.mean([_log_odds(fit(asked)) for fit in fits], axis=0)
        return (1 / (1 + np.exp(-odds))).astype(np.float32)

    return blended


def _log_odds(probability: NDArray[np.floating]) -> NDArray[np.floating]:
    kept = np.clip(probability, 1e-5, 1 - 1e-5)
    return np.log(kept / (1 - kept))
