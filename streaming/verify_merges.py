"""The part of `verify` that concerns merges: what was sent on is what came, all of it, and to whom it belongs.

Works on the topics' records and on the states that `verify` rebuilt from them; finds violations, a line each, and
leaves the scores and alerts of the patients concerned, which are checked like any other's, to `verify.py`.
"""

from collections.abc import Iterator, Mapping, Sequence

from aiokafka.structs import ConsumerRecord

from streaming.envelope import Event
from streaming.history import Absorbed, PatientState
from streaming.messages import HistoryJoined, HistoryParted

Place = tuple[str, int, int]


def sent_on_wrongly(
    topics: Mapping[str, Sequence[ConsumerRecord]], events: Mapping[tuple[str, str], Sequence[Event]]
) -> Iterator[str]:
    """Forwarded records that are not of an event of that patient, or not with its bytes."""
    records = {(kind, one.partition, one.offset): one for kind, some in topics.items() for one in some}
    accepted = {event.position: event for (kind, _), some in events.items() if kind != "forwarded" for event in some}
    for (kind, _), some in events.items():
        for event in some if kind == "forwarded" else ():
            place = f"forwarded {event.partition}/{event.offset}"
            first = accepted.get(event.position)
            # A merge sends on what had been merged before, too: then it is of someone further on in the path.
            whose = event.path if _of_a_merge(event) else event.path[:1]
            if first is None or first.patient not in {hop.patient for hop in whose}:
                yield f"{place}: not of an accepted event of that patient"
            elif not _of_a_merge(event):
                sent = records["forwarded", event.partition, event.offset]
                if (event.id, sent.value) != (first.id, records[event.position].value):
                    yield f"{place}: has another id or other bytes than the event it was made of"


def _of_a_merge(event: Event) -> bool:
    return isinstance(event.data, HistoryJoined | HistoryParted)


def parts_that_differ(states: Mapping[str, PatientState]) -> Iterator[str]:
    """Merged patients whose history, in the end, is not the part of it that the one merged into has, and parts left over."""
    for patient, state in states.items():
        link = state.links.standing if state.links is not None else None
        if link is not None:
            into = states.get(link.into)
            part = into.absorbed.parts.get(patient) if into is not None and into.absorbed is not None else None
            if part is None or part.state is None or not _alike(_split(state), _split(part.state), {link.into}):
                yield "a merged patient's history is not whole where it went"
        for name, part in () if state.absorbed is None else state.absorbed.parts.items():
            whose = states.get(name)
            standing = whose.links.standing if whose is not None and whose.links is not None else None
            if part.state is not None and (standing is None or standing.into != patient):
                yield "a patient still has the history of one who is not merged into it"


def _split(state: PatientState) -> Absorbed:
    return state.absorbed or Absorbed(state, {})


def _alike(one: Absorbed, other: Absorbed, passed: set[str]) -> bool:
    """Whether two hold the same, but for what was not sent on since it came from there (`passed`)."""
    if any(getattr(one.own, name) != getattr(other.own, name) for name in _EQUAL):
        return False
    if one.own.observations.pack() != other.own.observations.pack():
        return False
    live = [
        {name: part.state for name, part in two.parts.items() if part.state is not None and name not in passed}
        for two in (one, other)
    ]
    return live[0].keys() == live[1].keys() and all(
        _alike(_split(live[0][name]), _split(live[1][name]), passed) for name in live[0]
    )


_EQUAL = ("encounter", "newest_event_ms", "newest_recorded_ms", "notes", "scans")
