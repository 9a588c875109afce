"""The reducer: one patient's state with one more event, the patient's own or one of a patient merged into it. Pure.

A merge moves no state. Of A merged into B, A's owner goes on keeping A by A's own events, and sends each on to B; B keeps
what came of A apart (`Absorbed.parts`) and is scored by the union. So the undo is exact: the part is dropped, B is what
its own events make it, and A, who was kept all along, is scored again.

Invariants, property-tested:
- `apply` is order-free and idempotent: the same events in any order, each any number of times, give the same
  history (`PatientState.history()`), as long as no cap (`MAX_NOTES_KEPT`, `MAX_SCANS_KEPT`) is reached. That holds for
  forwarded events too, since each names the merge (`Hop.epoch`) that it was sent on by: a part is of the newest merge or
  undo heard of; what an older one sent is dropped, and a newer one starts the part anew, with the whole history.
- when every event has arrived everywhere, a scored patient's history is that of one patient who had the events of all
  who were merged into it, directly or by way of others.
- one patient's event touches another's state only as a part of it.
Leaves what may page to `alerting.py`, embeddings' making to `scoring.py`, bytes for Redis to `codec.py`, what is sent
on to `forwarding.py`.
"""

from collections.abc import Mapping
from dataclasses import replace

from streaming import codec
from streaming.alerting import PolicyState
from streaming.envelope import Event
from streaming.history import Absorbed, Part, PatientState, take, union
from streaming.messages import HistoryJoined, HistoryParted


def apply(state: PatientState, event: Event) -> PatientState:
    """The state with this event in it.

    An event whose offset on its topic is at or below the state's is a no-op (offset -1: no position known).
    A forwarded event that changes nothing, such as a repeat, leaves `absorbed` the same object.

    Raises:
        ValueError: the event is another patient's.
    """
    if state.absorbed is None and not event.path:
        return take(state, event)
    if event.patient != state.patient:
        raise ValueError("the event belongs to another patient")
    offsets = state.offsets
    if event.offset >= 0:
        if event.offset <= offsets.get(event.kind, -1):
            return state
        offsets = {**offsets, event.kind: event.offset}
    held = state.absorbed or Absorbed(_bare(state), {})
    if event.path:
        parts = _absorb(state.patient, held.parts, event)
        if parts is held.parts:
            return state if offsets is state.offsets else replace(state, offsets=offsets)
        now, links = Absorbed(held.own, parts), state.links
    else:
        own = take(replace(held.own, links=state.links), event)
        now, links = Absorbed(_bare(own), held.parts), own.links
    return replace(state, offsets=offsets, links=links, absorbed=now, **union(now.histories))


def _bare(state: PatientState) -> PatientState:
    """Only the history."""
    return replace(state, offsets={}, policy=PolicyState(), embeddings={}, links=None)


def _absorb(patient: str, parts: Mapping[str, Part], event: Event) -> Mapping[str, Part]:
    """With one forwarded event in the part of whoever sent it on last; the same object when it changes nothing."""
    hop, rest = event.path[-1], event.path[:-1]
    if any(one.patient == patient for one in event.path):
        return parts  # of a cycle: it came back to where it had been
    part = parts.get(hop.patient)
    if part is not None and hop.epoch < part.epoch:
        return parts
    if part is None or hop.epoch > part.epoch:
        part = Part(hop.epoch, PatientState(hop.patient))
    elif part.state is None:
        return parts  # undone: on a tie the undo counts
    if rest or not isinstance(event.data, HistoryJoined | HistoryParted):
        inner = apply(part.state, replace(event, patient=hop.patient, path=rest, offset=-1))
    elif isinstance(event.data, HistoryParted):
        inner = None
    else:
        inner = _joined(part.state, codec.from_history(hop.patient, event.data.model_dump()))
    held = parts.get(hop.patient)
    if held is not None and held.epoch == part.epoch and inner is not None and _same(held.state, inner):
        return parts
    return {**parts, hop.patient: Part(part.epoch, inner)}


def _joined(state: PatientState, piece: PatientState) -> PatientState:
    """A part with (a piece of) its patient's history in it."""
    if state.absorbed is None:
        return replace(state, **union([state, piece]))
    own = replace(state.absorbed.own, **union([state.absorbed.own, piece]))
    now = Absorbed(own, state.absorbed.parts)
    return replace(state, absorbed=now, **union(now.histories))


def _same(one: PatientState, other: PatientState) -> bool:
    """Whether the newer of two states of a part knows nothing that the older does not."""
    if one.absorbed is not None and other.absorbed is not None:
        return one.absorbed.parts is other.absorbed.parts and _same(one.absorbed.own, other.absorbed.own)
    return (
        one.absorbed is other.absorbed
        and one.observations is other.observations
        and one.notes is other.notes
        and one.scans is other.scans
        and (one.newest_event_ms, one.newest_recorded_ms) == (other.newest_event_ms, other.newest_recorded_ms)
        and (one.encounter_version, one.encounter) == (other.encounter_version, other.encounter)
    )
