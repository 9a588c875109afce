import numpy as np
import pytest

from streaming import scoring
from streaming.history import TEXT_KEPT, PatientState
from streaming.scoring import Scorer
from streaming.state import apply
from tests.helpers import NOON, event

TEXTS = ("Short of breath, no fever.", "Intubated this morning.", "Comfortable on room air.")


class _Counting:
    """The shipped model, and how many notes it was asked to encode."""

    def __init__(self, predictor):
        self._predictor, self.encoded = predictor, []

    def __getattr__(self, name):
        return getattr(self._predictor, name)

    def encode_notes(self, texts):
        self.encoded += texts
        return self._predictor.encode_notes(texts)


@pytest.fixture
def counting(predictor):
    return _Counting(predictor)


def _with_note(text, patient="p1"):
    return apply(PatientState(patient), event("notes", {"note_id": "n1", "text": text}, patient, NOON))


def test_a_note_encoded_ahead_is_not_encoded_again_and_says_the_same(counting):
    ahead, behind = Scorer(counting), Scorer(counting)
    states = [_with_note(text, f"p{number}") for number, text in enumerate(TEXTS)]
    assert ahead.has_new_notes(states)
    for text in TEXTS[:2]:
        ahead.encode_ahead(text)
    assert ahead.has_new_notes(states) and not ahead.has_new_notes(states[:2])
    ahead.encode_ahead(TEXTS[2])
    assert not ahead.has_new_notes(states)
    counting.encoded.clear()
    found = ahead.embed(states)
    assert counting.encoded == []
    expected = behind.embed(states)
    assert sorted(counting.encoded) == sorted(TEXTS)
    for one, other in zip(found, expected, strict=True):
        assert one.embeddings.keys() == other.embeddings.keys() == {"note:n1"}
        vectors = [np.frombuffer(state.embeddings["note:n1"].vector, "<f4") for state in (one, other)]
        np.testing.assert_allclose(*vectors, atol=1e-5)


def test_one_note_of_several_patients_is_encoded_once_and_a_text_ahead_twice_too(counting):
    scorer = Scorer(counting)
    scorer.embed([_with_note(TEXTS[0], f"p{number}") for number in range(3)])
    assert counting.encoded == [TEXTS[0]]
    scorer.encode_ahead(TEXTS[1])
    scorer.encode_ahead(TEXTS[1])
    assert counting.encoded == [TEXTS[0], TEXTS[1]]


def test_a_long_note_is_encoded_once_as_far_as_the_state_keeps_it(counting):
    text, scorer = "Short of breath. " * TEXT_KEPT, Scorer(counting)
    scorer.encode_ahead(text)
    state = _with_note(text)
    assert not scorer.has_new_notes([state])
    scorer.embed([state])
    assert counting.encoded == [text[:TEXT_KEPT]]


def test_what_was_encoded_ahead_is_forgotten_in_time_and_then_made_again(counting, monkeypatch):
    monkeypatch.setattr(scoring, "KEPT_AHEAD", 2)
    scorer = Scorer(counting)
    for text in TEXTS:
        scorer.encode_ahead(text)
    assert scorer.has_new_notes([_with_note(TEXTS[0])]) and not scorer.has_new_notes([_with_note(TEXTS[1])])
    (state,) = scorer.embed([_with_note(TEXTS[0])])
    assert counting.encoded == [*TEXTS, TEXTS[0]] and "note:n1" in state.embeddings
