from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming import codec
from streaming.alerting import Episode, PolicyState
from streaming.errors import Fatal
from streaming.history import Embedding
from streaming.observations import WINDOW_MS
from streaming.state import PatientState, apply
from tests.helpers import HEART_RATE, HOUR, NOON, SPO2, event, observation, vitals

AGE = "30525-0"


def _events():
    """A universe of events that collide: same times, same notes, amendments, retractions, statics, two encounters."""
    at = st.sampled_from([NOON - 60 * HOUR, NOON - HOUR, NOON, NOON + 1, NOON + 3 * HOUR, NOON + 100 * HOUR])
    late = st.sampled_from([0, HOUR])
    number = st.integers(0, 3)
    measured = st.builds(
        lambda t, r, v, code, s, n: vitals(
            at_ms=t, recorded_ms=t + r, value=60 + v, code=code, unit="/min" if code == HEART_RATE else "%",
            status=s, id=f"v{t}{r}{v}{code}{s}{n}", encounter=f"e{n}",
        ),
        at, late, number, st.sampled_from([HEART_RATE, SPO2]), st.sampled_from(["preliminary", "final", "corrected"]),
        number,
    )  # fmt: skip
    static = st.builds(lambda t, v: vitals(at_ms=t, value=50 + v, code=AGE, unit="a", id=f"a{t}{v}"), at, number)
    note = st.builds(
        lambda t, n, k: event("notes", {"note_id": f"n{n}", "text": f"text {k}"}, at_ms=t, id=f"n{t}{n}{k}"),
        at, number, number,
    )  # fmt: skip
    amended = st.builds(
        lambda t, n, k: event(
            "corrections", {"kind": "note-amended", "note_id": f"n{n}", "text": f"better {k}"}, at_ms=t, id=f"m{t}{n}{k}"
        ),
        at, number, number,
    )  # fmt: skip
    retracted = st.builds(
        lambda t, n: event("corrections", {"kind": "note-retracted", "note_id": f"n{n}"}, at_ms=t, id=f"r{t}{n}"),
        at, number,
    )  # fmt: skip
    unmeasured = st.builds(
        lambda t: event(
            "corrections",
            {"kind": "observation-retracted", "code": HEART_RATE, "time": observation("", 0, "", t)["time"]},
            at_ms=t, id=f"u{t}",
        ),
        at,
    )  # fmt: skip
    return st.one_of(measured, static, note, amended, retracted, unmeasured)


def _run(events):
    state = PatientState("p1")
    for one in events:
        state = apply(state, one)
    return state


@settings(deadline=None, max_examples=300)
@given(st.lists(_events(), max_size=14), st.randoms(), st.data())
def test_any_order_and_any_repetition_give_the_same_history(events, random, data):
    again = [one for one in events for _ in range(data.draw(st.integers(1, 2)))]
    random.shuffle(again)
    assert _run(again).history() == _run(events).history()


@settings(deadline=None)
@given(st.lists(_events(), max_size=10))
def test_state_survives_storage(events):
    state = _run(events)
    stored = {name.encode(): value for name, value in codec.encode(state).items()}
    read = codec.decode("p1", stored)
    assert read.history() == state.history()
    assert codec.encode(read) == codec.encode(state)


@settings(deadline=None)
@given(st.lists(_events(), max_size=10))
def test_writing_only_what_changed_is_enough(events):
    state = PatientState("p1")
    stored = codec.encode(state)
    for one in events:
        before, state = state, apply(state, one)
        stored |= codec.encode(state, before)
        read = codec.decode("p1", {name.encode(): value for name, value in stored.items()})
        assert codec.encode(read) == codec.encode(state)


def test_measurements_that_left_the_history_leave_storage():
    own, other = _run([vitals(id="a")]), _run([vitals(at_ms=NOON - 5 * HOUR, id="b"), vitals(at_ms=NOON, id="c")])
    both = replace(own, observations=own.observations.union([other.observations]))  # merged, then undone
    stored = codec.encode(both) | codec.encode(own, both)
    read = codec.decode("p1", {name.encode(): value for name, value in stored.items()})
    assert read.history() == own.history() != both.history()


def test_a_state_of_another_version_is_refused_with_what_to_do():
    stored = {name.encode(): value for name, value in codec.encode(PatientState("p1")).items()}
    stored[b"summary"] = stored[b"summary"].replace(b'"format":3', b'"format":2')
    with pytest.raises(Fatal, match=r"format 2, not 3.*rebuilt from Kafka"):
        codec.decode("p1", stored)


def test_stored_state_of_another_patient_is_refused():
    stored = {name.encode(): value for name, value in codec.encode(PatientState("p1")).items()}
    with pytest.raises(ValueError, match="another"):
        codec.decode("p2", stored)


def test_policy_and_embeddings_survive_storage():
    state = PatientState(
        "p1",
        policy=PolicyState({"c": Episode("warning", ("vitals", 3, 17), 2, 5, None)}),
        embeddings={"vitals": Embedding("e", "c", np.ones(4, "<f4").tobytes())},
    )
    read = codec.decode("p1", {name.encode(): value for name, value in codec.encode(state).items()})
    assert read.policy == state.policy
    assert read.embeddings == state.embeddings


def test_an_offset_at_or_below_the_stored_one_is_a_no_op():
    state = apply(PatientState("p1"), vitals(offset=7, value=80))
    assert apply(state, vitals(offset=7, value=99, at_ms=NOON + 1)) is state
    assert apply(state, vitals(offset=8, value=99, at_ms=NOON + 1)) is not state


def test_another_patients_event_is_refused():
    with pytest.raises(ValueError, match="another patient"):
        apply(PatientState("p1"), vitals(patient="p2"))


def test_the_later_recorded_value_wins_whenever_it_comes():
    first, second = vitals(value=80, recorded_ms=NOON, id="a"), vitals(value=95, recorded_ms=NOON + 1, id="b")
    for order in ((first, second), (second, first), (first, second, first)):
        assert [value for _, value in _run(order).observations.latest().values()] == [95.0]


def test_a_retracted_value_stays_out_even_when_it_comes_later():
    gone = event(
        "corrections",
        {"kind": "observation-retracted", "code": HEART_RATE, "time": observation("", 0, "", NOON)["time"]},
    )
    assert _run([gone, vitals()]).observations.window() is None


def test_history_is_bounded_by_what_the_model_sees():
    many = [vitals(at_ms=NOON + hour * HOUR, id=str(hour)) for hour in range(200)]
    assert _run(many).observations.count == WINDOW_MS // HOUR


def test_a_late_value_joins_history_in_its_place():
    state = _run([vitals(at_ms=NOON, id="a"), vitals(at_ms=NOON - 5 * HOUR, value=120, id="b")])
    window = state.observations.window()
    assert window.bins[-3, 0] == 120  # five hours back, in bins of two
    assert window.last[0] == 80
