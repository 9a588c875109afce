from collections import Counter

from streaming.faults import Faults, inject
from streaming.synthetic import cohort


def test_no_faults_change_nothing():
    events = list(cohort(2, 3, 1))
    assert [event for event, _ in inject(events, Faults())] == events


def test_faults_are_the_same_for_a_seed_and_in_order_of_arrival():
    events = list(cohort(3, 12, 1))
    faults = Faults(late=0.1, duplicate=0.1, shuffle=0.2, drop={"notes": 1.0}, seed=5)
    first = list(inject(events, faults))
    assert first == list(inject(events, faults))
    arrivals = [event.virtual_ms for event, _ in first]
    assert arrivals == sorted(arrivals)
    kinds = Counter(fault for _, fault in first)
    assert kinds["late"] and kinds["duplicate"] and kinds["shuffle"]
    assert not [event for event, _ in first if event.kind == "notes"]
    expected = {event.id for event in events if event.kind != "notes"}
    assert {event.id for event, _ in first} == expected
    assert len(first) == len(expected) + kinds["duplicate"]


def test_the_synthetic_cohort_is_the_same_for_a_seed_and_valid():
    from streaming.envelope import headers_for, parse

    events = list(cohort(3, 6, 2))
    assert events == list(cohort(3, 6, 2))
    assert {event.kind for event in events} == {"vitals", "notes", "scans"} or len(events) > 50
    for event in events:
        headers = headers_for(
            event.kind, id=event.id, source=event.source, patient=event.patient, time_ms=event.time_ms,
            recorded_ms=event.recorded_ms,
        )  # fmt: skip
        parse(event.kind, event.patient.encode(), event.value, headers)
