"""Peers that read documents, on the same splits as the model: logistic regression on the words of notes, on the pooled
ImageNet features of scans, and late fusion, which joins these two and the vitals' logistic regression. Each learns from the
training patients of every data set that teaches a condition and has its modality.

Late fusion weighs its members by a logistic regression of their log odds on the training rows, each member's told by
fits that never saw the patient; a row without a modality has no opinion of it (0) and a flag that says so.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

from models.conditions import CONDITIONS
from models.window import SLOTS
from training.cohort import folds
from training.dataset import Examples
from training.documents import Views
from training.hand import additive
from training.peers import each_condition, features_of

Rows = NDArray[np.int64]
Member = Callable[[Examples, Rows, Rows, int], NDArray[np.floating]]
"""(examples, training rows, asked rows, condition's column) -> [asked] log odds."""
Peer = Callable[[Examples, Rows, Rows], NDArray[np.float32]]
"""(examples, training rows, test rows) -> [test rows, C], as `crossval.py` calls it."""
INNER_FOLDS = 4
_WORD = r"[a-zA-Z]{2,}"
_STANDING = [column for column, condition in enumerate(CONDITIONS) if not condition.hourly]
"""Of hourly conditions these peers say nothing."""


def vitals_odds(examples: Examples, train: Rows, asked: Rows, column: int) -> NDArray[np.floating]:
    """Additive logistic regression on the hand features."""
    told = additive(features_of(examples, train), examples.labels[train, column])(features_of(examples, asked))
    return special.logit(np.clip(told, 1e-5, 1 - 1e-5))


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


def scan_odds(seen: Views) -> Member:
    """Ridge-penalised logistic regression on the trunk's features."""

    def odds(examples: Examples, train: Rows, asked: Rows, column: int) -> NDArray[np.floating]:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        features = seen.features.numpy()
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=2000))
        model.fit(features[examples.picture_at[train]], examples.labels[train, column])
        return model.decision_function(features[examples.picture_at[asked]])

    return odds


def document_peers(seen: Views) -> dict[str, Peer]:
    """`notes_logistic`, `scans_logistic` and `late_fusion`."""
    members: dict[str, Member] = {"vitals": vitals_odds, "notes": note_logits, "scans": scan_odds(seen)}

    def peer(fit: Member) -> Peer:
        def told(examples: Examples, train: Rows, test: Rows) -> NDArray[np.float32]:
            def probability(rows: Rows, asked: Rows, column: int) -> NDArray[np.floating]:
                return special.expit(fit(examples, rows, asked, column))

            return each_condition(examples, train, test, probability, _STANDING)

        return told

    def one(name: str) -> Peer:
        return peer(lambda examples, *rows: _opinion(members[name], name, examples, *rows)[:, 0])

    def late_fusion(examples: Examples, rows: Rows, asked: Rows, column: int) -> NDArray[np.floating]:
        from sklearn.linear_model import LogisticRegression

        parts = folds(examples.group[rows], examples.stratum[rows], INNER_FOLDS, 0)
        held, told = [], []
        for name, member in members.items():
            inside = np.zeros((len(rows), 2))
            for rest, left in parts:
                inside[left] = _opinion(member, name, examples, rows[rest], rows[left], column)
            held.append(inside)
            told.append(_opinion(member, name, examples, rows, asked, column))
        joined = LogisticRegression(max_iter=1000).fit(np.concatenate(held, 1), examples.labels[rows, column])
        return joined.decision_function(np.concatenate(told, 1))

    return {"notes_logistic": one("notes"), "scans_logistic": one("scans"), "late_fusion": peer(late_fusion)}


def _opinion(
    member: Member, name: str, examples: Examples, rows: Rows, asked: Rows, column: int
) -> NDArray[np.floating]:
    """[asked, 2] log odds and whether there is an opinion at all."""
    slot = SLOTS.index(name)
    known, wanted = rows[examples.present[rows, slot] > 0], np.flatnonzero(examples.present[asked, slot] > 0)
    told = np.zeros((len(asked), 2))
    label = examples.labels[known, column]
    if len(wanted) and 0 < label.sum() < len(label):
        told[wanted, 0], told[wanted, 1] = member(examples, known, asked[wanted], column), 1.0
    return told
