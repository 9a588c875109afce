"""What every source yields: a stay with its wire events, labels and the hours at which it is scored.

Events are made as wire bytes and parsed by `streaming.envelope.parse`, so that training reads what serving reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streaming.envelope import Event, headers_for, parse
from streaming.messages import Note, Observation, Vitals

EPOCH_MS = 4_102_444_800_000  # 2100-01-01T00:00Z: sources that give only hours since admission start here


@dataclass(frozen=True, slots=True)
class Picture:
    """A scan that is no DICOM file: pixels [224, 224] in 0..1, DICOM modality, time in ms."""

    time_ms: int
    pixels: NDArray[np.float32]
    kind: str


@dataclass(frozen=True, slots=True)
class Stay:
    """One stay. `group` is the patient, for splits; `labels` by condition; `snapshots` in ms, ascending.

    `cluster` is who counts as one in intervals, calibration and conformal cuts: the patient, so the group, unless a source's
    groups are larger.
    `taught` is what training is told in a label's place, in [0, 1]: a course nearly as bad counts in part. No figure,
    threshold or calibration is of it.
    `hourly` holds conditions whose label changes within the stay: one label a snapshot, NaN where unknown.
    `site` is the hospital, unit or source of the stay, for figures by site; no input of the model.
    """

    patient: str
    group: str
    source: str
    events: Sequence[Event]
    labels: Mapping[str, float]
    snapshots: Sequence[int]
    pictures: Sequence[Picture] = field(default=())
    hourly: Mapping[str, Sequence[float]] = field(default_factory=dict)
    site: str = ""
    taught: Mapping[str, float] = field(default_factory=dict)
    cluster: str = ""

    def __post_init__(self) -> None:
        if not self.cluster:
            object.__setattr__(self, "cluster", self.group)

    def first_event(self, condition: str) -> float:
        """Ordinal of the first snapshot that has an hourly condition; NaN where none has or it is not hourly."""
        labels = self.hourly.get(condition, ())
        return next((float(ordinal) for ordinal, label in enumerate(labels) if label == 1), np.nan)


def vitals_event(patient: str, number: int, time_ms: int, measured: Sequence[tuple[str, float, str]]) -> Event:
    """One vitals event of (LOINC, value, UCUM unit), all of one time."""
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    value = Vitals(observations=tuple(Observation(code=c, value=v, unit=u, time=moment) for c, v, u in measured))
    return _event("vitals", patient, f"v{number}", time_ms, value.model_dump_json().encode())


def note_event(patient: str, number: int, time_ms: int, text: str, document: str = "") -> Event:
    """One note; under a `document`'s name it takes the place of what that document said before."""
    value = Note(note_id=document or f"n{number}", text=text)
    return _event("notes", patient, f"n{number}", time_ms, value.model_dump_json().encode())


def _event(kind: str, patient: str, event_id: str, time_ms: int, value: bytes) -> Event:
    headers = headers_for(kind, id=event_id, source="training", patient=patient, time_ms=time_ms)
    return parse(kind, patient.encode(), value, headers)
