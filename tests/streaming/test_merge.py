"""Merges: a ward of patients whose workers send each other what they must, in any order, against what it must come to."""

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming import codec, forwarding
from streaming.envelope import Limits, from_ms, headers_for
from streaming.errors import InvalidMessage
from streaming.forwarded import MAX_HOPS
from streaming.history import take
from streaming.records import parse_record
from streaming.state import PatientState, apply
from tests.helpers import HEART_RATE, HOUR, MINUTE, NOON, SPO2, observation

FORWARDER = forwarding.Forwarder("ward", lambda key: key[-1] % 8)
NAMES = ("A", "B", "C", "D")


def record(kind, body, patient, at_ms=NOON, id=None, recorded_ms=None, encounter=None, offset=-1):
    """A record as Kafka would give it."""
    headers = headers_for(
        kind,
        id=id or f"{kind}{patient}{at_ms}{body!r:.90}",
        source="test",
        patient=patient,
        time_ms=at_ms,
        recorded_ms=at_ms if recorded_ms is None else recorded_ms,
        encounter=encounter,
    )
    return SimpleNamespace(
        topic=kind,
        partition=0,
        offset=offset,
        timestamp=NOON,
        key=patient.encode(),
        value=orjson.dumps(body),
        headers=headers,
    )


def measured(patient, value, at_ms=NOON, code=HEART_RATE, **more):
    unit = "/min" if code == HEART_RATE else "%"
    return record("vitals", {"observations": [observation(code, value, unit, at_ms)]}, patient, at_ms, **more)


def merged(patient, into, at_ms=NOON, **more):
    return record("corrections", {"kind": "patient-merged", "into": into}, patient, at_ms, **more)


def unmerged(patient, parted, at_ms=NOON, **more):
    return record("corrections", {"kind": "patient-unmerged", "from": parted}, patient, at_ms, **more)


class Ward:
    """Every patient's worker, and what lies on `forwarded`."""

    def __init__(self):
        self.states = {}
        self.waiting = []
        self.own = defaultdict(list)
        self.refused = []

    def read(self, one, kind=None):
        """One record taken by its patient's worker."""
        kind = kind or one.topic
        try:
            event = parse_record(kind, one, Limits())
        except InvalidMessage as error:
            self.refused.append(error.reason)
            return
        before = self.states.get(event.patient, PatientState(event.patient))
        after = self.states[event.patient] = apply(before, event)
        if not event.path:
            self.own[event.patient].append(event)
        if after.links is not None:
            self.waiting += [as_read(out) for out in FORWARDER.sent_on(before, after, event, one)]

    def settle(self):
        """Reads what was sent until nothing is left."""
        steps = 0
        while self.waiting:
            steps += 1
            assert steps < 5_000, "records are forwarded for ever"
            self.read(self.waiting.pop(0), "forwarded")

    def play(self, *records):
        """Each record, and all it leads to before the next."""
        for one in records:
            self.read(one)
            self.settle()
        return self

    def history(self, patient):
        return self.states[patient].history()


def as_read(out):
    return SimpleNamespace(
        topic=out.kind,
        partition=out.partition,
        offset=-1,
        timestamp=NOON,
        key=out.key,
        value=out.value,
        headers=out.headers,
    )


# ------------------------------------------------------------------------------------------------ the specification


def standing(events):
    """Of a patient's statements the one that counts: (epoch, into), or None."""
    told = [event for event in events if type(event.data).__name__.startswith("Patient")]
    said = [((e.recorded_ms, not hasattr(e.data, "into"), e.version), e.data) for e in told]
    merges = [(epoch, data.into) for epoch, data in said if hasattr(data, "into")]
    if not merges:
        return None
    epoch, into = max(merges)
    undone = [at for at, data in said if not hasattr(data, "into") and data.from_ == into]
    return None if undone and max(undone) >= epoch else (epoch, into)


def specified(own):
    """Per patient what its history must be and who is scored instead, from everybody's own events alone."""
    links = {name: standing(own[name]) for name in NAMES}
    void = set()
    for name in NAMES:
        walk, at = [], name
        while links[at] is not None and at not in walk:
            walk.append(at)
            at = links[at][1]
        if at in walk:
            cycle = walk[walk.index(at) :]
            void.add(max(cycle, key=lambda one: (links[one][0], one)))
    into = {name: links[name][1] if links[name] and name not in void else None for name in NAMES}
    found = {}
    for name in NAMES:
        members = [one for one in NAMES if name in ends(one, into)]
        found[name] = (into[name], tuple(one for one in members if one != name), [e for m in members for e in own[m]])
    return found


def ends(name, into):
    """The patient and all it was merged into."""
    chain = [name]
    while into[chain[-1]] is not None:
        chain.append(into[chain[-1]])
    return chain


def single(events):
    """One patient who had all these events."""
    state = PatientState("X")
    for event in events:
        state = take(state, replace(event, patient="X", offset=-1))
    return state.history()


def check(states, own):
    """The states are what is specified of everybody's own events."""
    for name, (into, members, events) in specified(own).items():
        if name not in states:
            continue
        state = states[name]
        assert state.merged_into == into, name
        if into is None:
            assert state.merged_from == members, name
            wanted, found = single(events), state.history()
            for part in ("encounter", "newest_event_ms", "newest_recorded_ms", "observations", "notes", "scans"):
                assert found[part] == wanted[part], (name, part)


# ------------------------------------------------------------------------------------------------ any order, any merges


def _encoded(number):
    return {
        "study_uid": "1", "series_uid": f"s{number}", "instance_uid": f"i{number}", "modality": "CT",
        "content_sha256": "0" * 63 + str(number), "encoder": "e", "embedding": "AAAAAA==", "scan_topic": "scans",
        "scan_partition": 0, "scan_offset": number,
    }  # fmt: skip


def any_records():
    name = st.sampled_from(NAMES[:3])
    at = st.sampled_from([NOON - 60 * HOUR, NOON, NOON + 1, NOON + 3 * HOUR])
    value = st.integers(60, 63)
    when = st.integers(0, 5)
    vitals = st.builds(
        lambda p, v, t, c, e: measured(p, v, t, c, encounter=f"e{e}"),
        name,
        value,
        at,
        st.sampled_from([HEART_RATE, SPO2]),
        value,
    )
    static = st.builds(
        lambda p, v, t: record("vitals", {"observations": [observation("30525-0", v, "a", t)]}, p, t), name, value, at
    )
    note = st.builds(
        lambda p, n, t: record("notes", {"note_id": f"n{n}", "text": f"of {p}"}, p, t), name, st.integers(0, 2), at
    )
    gone = st.builds(
        lambda p, n, t: record("corrections", {"kind": "note-retracted", "note_id": f"n{n}"}, p, t),
        name,
        st.integers(0, 2),
        at,
    )
    unmeasured = st.builds(
        lambda p, t: record("corrections", {"kind": "observation-retracted", "code": HEART_RATE, "time": from_ms(t)}, p, t),
        name, at,
    )  # fmt: skip
    scan = st.builds(lambda p, n, t: record("encoded-scans", _encoded(n), p, t), name, st.integers(0, 2), at)
    encountered = st.sampled_from([None, "e61"])
    other = st.tuples(name, name).filter(lambda pair: pair[0] != pair[1])
    merge = st.builds(
        lambda pair, w, e: merged(*pair, NOON + w, id=f"m{pair}{w}", encounter=e), other, when, encountered
    )
    undo = st.builds(lambda pair, w: unmerged(*pair, NOON + w, id=f"u{pair}{w}"), other, when)
    return st.one_of(vitals, static, note, gone, unmeasured, scan, merge, merge, undo)


@settings(deadline=None, max_examples=400)
@given(st.lists(any_records(), max_size=12), st.randoms(use_true_random=False), st.data())
def test_any_order_of_records_and_forwardings_comes_to_what_is_specified(records, random, data):
    """Cycles and chains among three patients, records repeated, forwarded ones overtaking each other and repeated."""
    ward = Ward()
    todo = [one for one in records for _ in range(data.draw(st.integers(1, 2)))]
    random.shuffle(todo)
    steps = 0
    while todo or ward.waiting:
        steps += 1
        assert steps < 5_000, "records are forwarded for ever"
        if todo and (not ward.waiting or random.random() < 0.5):
            ward.read(todo.pop())
        else:
            one = ward.waiting.pop(random.randrange(len(ward.waiting)))
            ward.read(one, "forwarded")
            if random.random() < 0.3:
                ward.read(one, "forwarded")
    assert ward.refused == []
    check(ward.states, ward.own)


@settings(deadline=None, max_examples=100)
@given(st.lists(any_records(), max_size=12))
def test_merged_states_survive_storage_and_only_what_changed_is_written(records):
    ward, stored = Ward(), defaultdict(dict)
    for one in records:
        before = dict(ward.states)
        ward.play(one)
        for name, state in ward.states.items():
            stored[name] |= {key.encode(): value for key, value in codec.encode(state, before.get(name)).items()}
    for name, state in ward.states.items():
        read = codec.decode(name, stored[name])
        assert read.history() == state.history()
        assert codec.encode(read) == codec.encode(state)
        assert (read.links, read.absorbed is None) == (state.links, state.absorbed is None)


# ------------------------------------------------------------------------------------------------ one by one


def _latest(state):
    return {value for _, value in state.observations.latest().values()}


def test_after_a_merge_the_one_who_goes_on_has_both_histories_and_every_later_event():
    ward = Ward().play(
        measured("A", 100),
        measured("B", 60, NOON + MINUTE),
        merged("A", "B", NOON + 2 * MINUTE),
        measured("A", 97, NOON + 3 * MINUTE, SPO2),
    )
    a, b = ward.states["A"], ward.states["B"]
    assert (a.merged_into, b.merged_into, b.merged_from) == ("B", None, ("A",))
    assert (b.observations.count, _latest(b)) == (3, {60.0, 97.0})
    assert _latest(a) == {100.0, 97.0}


def test_an_undo_gives_both_exactly_what_they_would_have_had():
    own = [
        measured("A", 100),
        measured("B", 60, NOON + 1),
        measured("A", 97, NOON + 3, SPO2),
        measured("B", 61, NOON + 5),
    ]
    apart = Ward().play(*own)
    ward = Ward().play(*own[:2], merged("A", "B", NOON + 2), *own[2:], unmerged("A", "B", NOON + 4))
    assert ward.history("B") == apart.history("B")
    assert ward.history("A") == apart.history("A")


def test_what_was_sent_on_by_an_undone_merge_changes_nothing_when_it_comes_late():
    ward = Ward().play(measured("B", 60), merged("A", "B", NOON + 1))
    ward.read(measured("A", 100, NOON + 2))
    (late,) = ward.waiting
    ward.waiting = []
    ward.play(unmerged("A", "B", NOON + 3))
    before = ward.states["B"]
    ward.read(late, "forwarded")
    assert ward.states["B"] is before


def test_a_merge_of_patients_never_heard_of_works():
    ward = Ward().play(merged("A", "B"), measured("A", 100, NOON + 1))
    assert (_latest(ward.states["B"]), ward.states["B"].merged_from) == ({100.0}, ("A",))


def test_chains_carry_on_and_the_undo_in_the_middle_takes_what_came_through_it():
    ward = Ward().play(
        measured("A", 100), merged("A", "B", NOON + 1), measured("B", 97, NOON + 1, SPO2), merged("B", "C", NOON + 2)
    )
    ward.play(measured("A", 101, NOON + 3))
    assert (_latest(ward.states["C"]), ward.states["C"].merged_from) == ({101.0, 97.0}, ("A", "B"))
    ward.play(unmerged("A", "B", NOON + 4))
    assert (_latest(ward.states["C"]), ward.states["C"].merged_from) == ({97.0}, ("B",))
    assert ward.states["A"].merged_into is None
    ward.play(unmerged("B", "C", NOON + 5))
    assert not _latest(ward.states["C"])


def test_a_cycle_is_resolved_against_its_last_merge_wherever_that_is_read_first():
    first, last = merged("A", "B", NOON + 1), merged("B", "A", NOON + 2)
    for order in ((first, last), (last, first)):
        ward = Ward().play(measured("A", 100), measured("B", 97, code=SPO2), *order)
        assert (ward.states["A"].merged_into, ward.states["B"].merged_into) == ("B", None)
        assert _latest(ward.states["B"]) == {100.0, 97.0}
        ward.play(unmerged("A", "B", NOON + 3))  # now the other merge stands
        assert (ward.states["A"].merged_into, ward.states["B"].merged_into) == (None, "A")
        assert _latest(ward.states["A"]) == {100.0, 97.0}


def test_a_chain_longer_than_is_followed_ends_in_a_dead_letter_with_a_reason():
    names = [f"p{place}" for place in range(MAX_HOPS + 2)]
    ward = Ward().play(*(merged(one, other) for one, other in pairwise(names)))
    ward.refused.clear()
    ward.play(measured(names[0], 100, NOON + 1))
    assert ward.refused == ["merge-depth"]
    assert _latest(ward.states[names[MAX_HOPS]]) == {100.0}


def test_the_undo_of_another_merge_than_the_one_that_stands_changes_nothing():
    ward = Ward().play(merged("A", "B", NOON), merged("A", "C", NOON + 1), unmerged("A", "B", NOON + 2))
    assert ward.states["A"].merged_into == "C"
    ward.play(unmerged("A", "C", NOON + 3))
    assert ward.states["A"].merged_into is None


def test_a_large_history_goes_in_pieces_that_any_limit_takes(monkeypatch):
    monkeypatch.setattr(forwarding, "PIECE_MEASUREMENTS", 7)
    monkeypatch.setattr(forwarding, "PIECE_BYTES", 2_000)
    notes = [record("notes", {"note_id": f"n{k}", "text": "x" * 900}, "A", NOON + k * MINUTE) for k in range(9)]
    ward = Ward()
    for one in (*(measured("A", 60 + k % 40, NOON + k * 5 * MINUTE) for k in range(50)), *notes):
        ward.read(one)
    ward.read(merged("A", "B", NOON + 5 * HOUR))
    assert len(ward.waiting) > 9
    assert max(len(one.value) for one in ward.waiting) < 4_000
    assert len({dict(one.headers)["ce_id"] for one in ward.waiting}) == len(ward.waiting)
    ward.settle()
    check(ward.states, ward.own)
    assert ward.states["B"].observations.count == 50


def test_a_forwarded_event_keeps_its_id_times_value_and_says_whose_it_was():
    ward = Ward().play(merged("A", "B"))
    one = measured("A", 100, NOON + 7, recorded_ms=NOON + 9, offset=17, id="vitals-of-A")
    ward.read(one)
    (sent,) = ward.waiting
    event = parse_record("forwarded", sent, Limits())
    assert (event.id, event.time_ms, event.recorded_ms, sent.value) == ("vitals-of-A", NOON + 7, NOON + 9, one.value)
    assert (event.patient, event.path[0].patient, event.position) == ("B", "A", ("vitals", 0, 17))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ce_mergedfrom": None}, "missing-attribute"),
        ({"ce_mergedfrom": b"A"}, "bad-attribute"),
        ({"ce_mergedfrom": b"[]"}, "bad-attribute"),
        ({"ce_mergedfrom": b'[["A", 1]]'}, "bad-attribute"),
        ({"ce_mergedfrom": b'[["", 1, 1]]'}, "bad-attribute"),
        ({"ce_mergeorigin": b"vitals/x"}, "bad-attribute"),
        ({"ce_type": b"wardwatch.scan.v1"}, "wrong-type"),
        ({"value": b"{}"}, "bad-schema"),
        ({"value": b"{"}, "broken-json"),
        ({"value": b"AAAA"}, "broken-json"),
    ],
)
def test_what_no_worker_would_send_is_refused(change, reason):
    ward = Ward().play(measured("A", 100))
    ward.read(merged("A", "B"))
    (sent,) = ward.waiting
    value = change.pop("value", sent.value)
    headers = {name: raw for name, raw in (dict(sent.headers) | change).items() if raw is not None}
    with pytest.raises(InvalidMessage) as caught:
        parse_record(
            "forwarded", SimpleNamespace(**(vars(sent) | {"value": value, "headers": list(headers.items())})), Limits()
        )
    assert caught.value.reason == reason


@pytest.mark.parametrize("packed", ["", "AAAA", "AQA=", "AQAAAAAA", "!"])
def test_joined_measurements_that_cannot_be_such_are_refused(packed):
    ward = Ward().play(measured("A", 100))
    ward.read(merged("A", "B"))
    (sent,) = ward.waiting
    sent.value = orjson.dumps(orjson.loads(sent.value) | {"observations": packed})
    with pytest.raises(InvalidMessage) as caught:
        parse_record("forwarded", sent, Limits())
    assert caught.value.reason == "bad-schema"


def test_a_merge_into_itself_is_refused():
    with pytest.raises(InvalidMessage) as caught:
        parse_record("corrections", merged("A", "A"), Limits())
    assert caught.value.reason == "bad-correction"


def test_only_a_state_that_knows_of_a_merge_says_so_where_it_is_stored():
    summary = orjson.loads(
        codec.encode(apply(PatientState("A"), parse_record("vitals", measured("A", 1 + 99), Limits())))["summary"]
    )
    assert "merged_into" not in summary
    merged_summary = orjson.loads(codec.encode(Ward().play(merged("A", "B")).states["A"])["summary"])
    assert merged_summary["merged_into"] == "B"
