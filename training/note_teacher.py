"""A teacher for the note encoder: tf-idf and logistic regression over words, out of fold, for the network to learn from.

As with the teachers of the vitals, none tells of a patient it was fitted to, and none sees a row outside the training
rows. `joined` weighs the opinions of both kinds of teachers.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from training.cohort import folds
from training.dataset import Examples

Rows = NDArray[np.int64]
FOLDS = 4
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


Joint = Callable[[NDArray[np.floating], NDArray[np.floating]], NDArray[np.float32]]
"""(log odds by vitals, log odds by notes) -> probabilities."""


def joined(label: NDArray[np.floating], vitals: NDArray[np.floating], notes: NDArray[np.floating]) -> Joint:
    """A logistic regression of the two teachers' out-of-fold log odds: three numbers are learned, no more."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression().fit(np.stack([vitals, notes], axis=1), label)

    def say(vitals: NDArray[np.floating], notes: NDArray[np.floating]) -> NDArray[np.float32]:
        return fitted.predict_proba(np.stack([vitals, notes], axis=1))[:, 1].astype(np.float32)

    return say
