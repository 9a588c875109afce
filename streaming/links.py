"""What was said of where a patient went: merges and their undos. Pure; owns which statement counts.

The last recorded counts, whenever it comes: statements in any order, each any number of times, give the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from streaming.envelope import Event
from streaming.messages import PatientMerged, PatientUnmerged

Epoch = tuple[int, int]  # (recorded ms, hash of the event id) of a merge or of its undo
_UNDO = 1 << 32  # above every hash: of the same millisecond the undo is later


@dataclass(frozen=True, slots=True)
class Link:
    """The patient was merged into another. `offset` on `corrections`: where that was first read."""

    into: str
    epoch: Epoch
    offset: int


@dataclass(frozen=True, slots=True)
class Links:
    """The newest merge of a patient, and the undos (by the patient it had been merged into) not older than it."""

    merge: Link | None = None
    undone: Mapping[str, Epoch] = field(default_factory=dict)

    @property
    def standing(self) -> Link | None:
        """The merge that stands: the newest, unless it was undone since, or in the same millisecond.

        The undo of another merge than the newest changes nothing, and an undone merge leaves the patient alone: it
        does not go back to an older one.
        """
        if self.merge is None:
            return None
        undone = self.undone.get(self.merge.into)
        return self.merge if undone is None or undone < self.merge.epoch else None

    def told(self, event: Event) -> "Links":
        """With one more `PatientMerged` or `PatientUnmerged`."""
        epoch = epoch_of(event)
        merge, undone = self.merge, self.undone
        match event.data:
            case PatientMerged(into=into):
                if merge is None or (epoch, into) > (merge.epoch, merge.into):
                    merge = Link(into, epoch, event.offset)
            case PatientUnmerged(from_=parted):
                undone = {**undone, parted: max(epoch, undone.get(parted, epoch))}
        return Links(merge, {name: at for name, at in undone.items() if merge is None or at >= merge.epoch})


def epoch_of(event: Event) -> Epoch:
    """What decides between two statements of one patient."""
    return event.recorded_ms, event.version + (_UNDO if isinstance(event.data, PatientUnmerged) else 0)
