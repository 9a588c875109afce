"""A teacher for the note encoder: tf-idf and logistic regression over words, out of fold, for the network to learn from.

No teacher tells of a patient it was fitted to, and none sees a row outside the training rows. So a training patient's
note token claims no more than it would of a stranger, and the fusion does not come to trust notes beyond their worth.
"""

import numpy as np
from numpy.typing import NDArray

from training.cohort import folds
from training.dataset import Examples

Rows = NDArray[np.int64]
FOLDS = 4
FEWEST = 300
"""Fewer labelled rows than this teach nothing that the labels do not."""
TRUST = 0.7
"""How far labels give way to the teachers."""
_WORD = r"[a-zA-Z]{2,}"


def written(examples: Examples, rows: Rows) -> list[str]:
    """Each row's notes as one text, newest first; empty without notes."""
    return [" ".join(examples.texts[at] for at in examples.note_at[row] if at >= 0) for row in rows]


def note_logits(examples: Examples, train: Rows, asked: Rows, column: int) -> NDArray[np.float32]:
    """[asked] log odds of a condition, up to a shift, by words and pairs of words; learned from the training rows."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(sublinear_tf=True, min_df=3, ngram_range=(1, 2), token_pattern=_WORD)
    known = words.fit_transform(written(examples, train))
    fitted = LogisticRegression(C=0.5, class_weight="balanced", max_iter=2000)
    fitted.fit(known, examples.labels[train, column])
    return fitted.decision_function(words.transform(written(examples, asked))).astype(np.float32)


def out_of_fold(examples: Examples, rows: Rows, column: int, seed: int) -> NDArray[np.float32]:
    """[rows] log odds, each from a fit that never saw the row's patient."""
    told = np.zeros(len(rows), np.float32)
    for rest, asked in folds(examples.group[rows], FOLDS, seed):
        told[asked] = note_logits(examples, rows[rest], rows[asked], column)
    return told


def soft_labels(examples: Examples, rows: Rows, seed: int) -> NDArray[np.float32]:
    """[N, C] labels of these rows, NaN elsewhere, moved towards what teachers of notes say of them.

    Of every source and condition with enough labelled rows that have notes; elsewhere the label stands as it is.
    """
    from sklearn.linear_model import LogisticRegression

    targets = np.full(examples.labels.shape, np.nan, np.float32)
    targets[rows] = examples.labels[rows]
    noted = rows[(examples.note_at[rows] >= 0).any(1)]
    for source in np.unique(examples.source[noted]):
        for column in range(targets.shape[1]):
            at = noted[(examples.source[noted] == source) & ~np.isnan(examples.labels[noted, column])]
            label = examples.labels[at, column]
            if len(at) < FEWEST or not 0 < label.sum() < len(label):
                continue
            odds = out_of_fold(examples, at, column, seed)[:, None]
            told = LogisticRegression().fit(odds, label).predict_proba(odds)[:, 1]  # two numbers: odds to probability
            targets[at, column] = (1 - TRUST) * label + TRUST * told
    return targets
