"""The wire: what the values on each topic hold, as pydantic models. Owns schemas; leaves attributes to `envelope.py`.

JSON Schemas and the AsyncAPI document are generated from these classes (`python -m streaming.schemas`). A scan's value
is not here: it is bare DICOM Part 10 bytes.
"""

import base64
from datetime import UTC, datetime
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from streaming.clock import EARLIEST_MS, LATEST_MS

Identifier = Annotated[str, Field(min_length=1, max_length=200)]
Action = Literal["raised", "escalated", "cleared"]
Level = Literal["none", "watch", "warning", "critical"]
Modality = Literal["vitals", "notes", "scans"]
Outcome = Literal["no event", "event"]
Moment = Annotated[AwareDatetime, Field(ge=datetime.min.replace(tzinfo=UTC), le=datetime.max.replace(tzinfo=UTC))]
"""In UTC of the years 1 to 9999 too: its offset may lead out of them."""

LARGEST = 1e4
"""An embedding's numbers are about 1; this is far below where a fusion head's arithmetic overflows, in half precision too."""


def _sound(text: str) -> str:
    data = base64.b64decode(text)
    vector = np.frombuffer(data, "<f4")
    if not len(vector) or not (np.abs(vector) <= LARGEST).all():  # NaN is not at most anything
        raise ValueError("no embedding")
    if base64.b64encode(data).decode() != text:  # it tells its width by its length
        raise ValueError("not as base64 is written")
    return text


EmbeddingText = Annotated[str, AfterValidator(_sound)]
"""How many numbers are right only the artifact knows: `scoring.py` leaves out what is not of its width."""


class Wire(BaseModel):
    """Base: unknown keys are refused on input, so that a misspelt key is never silently ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Observation(Wire):
    """One measurement, as it was charted: units are converted by the signal table or refused."""

    code: Annotated[str, Field(pattern=r"^\d{1,7}-\d$", description="LOINC code")]
    value: Annotated[float, Field(description="finite number in `unit`")]
    unit: Annotated[str, Field(max_length=40, description="UCUM unit, case-sensitive")]
    time: Annotated[Moment, Field(description="when it was true of the patient, RFC 3339 with offset")]


class Vitals(Wire):
    """Value on `vitals`: vital signs, laboratory results and static facts (age, sex, height, weight)."""

    observations: Annotated[
        tuple[Observation, ...],
        Field(min_length=1, max_length=500, description="of one code's values in one minute the newest counts"),
    ]
    status: Annotated[
        Literal["preliminary", "final", "corrected"],
        Field(description="of two values for one code and time, the later status wins, then the later recorded"),
    ] = "final"


class Note(Wire):
    """Value on `notes`: one clinical note."""

    note_id: Identifier
    text: Annotated[str, Field(min_length=1)]
    category: Annotated[str, Field(max_length=100)] = ""


class NoteAmended(Wire):
    """The note's text was replaced."""

    kind: Literal["note-amended"]
    note_id: Identifier
    text: Annotated[str, Field(min_length=1)]
    category: Annotated[str, Field(max_length=100)] = ""


class NoteRetracted(Wire):
    """The note should never have been there; whatever comes under its id later stays out."""

    kind: Literal["note-retracted"]
    note_id: Identifier


class ObservationRetracted(Wire):
    """The measurement of this code at this time was wrong; nothing for that code and time counts any more, unless it is
    corrected later (status `corrected`, recorded after this)."""

    kind: Literal["observation-retracted"]
    code: Annotated[str, Field(pattern=r"^\d{1,7}-\d$", description="LOINC code of a vital or lab")]
    time: Moment


class PatientMerged(Wire):
    """The patient of this event stops being used: the events count as `into`'s from now on (HL7 v2 A40)."""

    kind: Literal["patient-merged"]
    into: Annotated[Identifier, Field(description="the patient that goes on, another than the event's own")]


class PatientUnmerged(Wire):
    """That merge was wrong: the patient of this event is on its own again, and `from` is without its events."""

    model_config = ConfigDict(serialize_by_alias=True)

    kind: Literal["patient-unmerged"]
    from_: Annotated[Identifier, Field(alias="from", description="the patient it had been merged into")]


Corrected = NoteAmended | NoteRetracted | ObservationRetracted | PatientMerged | PatientUnmerged
Correction = Annotated[Corrected, Field(discriminator="kind")]
"""Value on `corrections`. Of several merges and undos of a patient the last recorded counts, whenever it comes."""

WHOLE = range(-(2**63), 2**63)
"""What a stored state can hold."""
Whole = Annotated[int, Field(ge=WHOLE.start, lt=WHOLE.stop)]
Version = tuple[Whole, Whole, Whole]
Milliseconds = Annotated[int, Field(ge=EARLIEST_MS, le=LATEST_MS, description="since 1970, years 1 to 9999")]


More = Annotated[bool, Field(description="what the same merge sends is not whole with this: it pages nobody")]


class HistoryJoined(Wire):
    """Made by workers: (a piece of) what a merged patient's own events amounted to when the merge was taken.

    Any number of pieces, in any order and repeated, give the same. `observations` is packed as the worker's state is.
    """

    kind: Literal["history-joined"]
    encounter: str | None
    encounter_version: Version
    newest_event_ms: Milliseconds
    newest_recorded_ms: Milliseconds
    observations: Annotated[str, Field(description="base64 of the packed measurements")]
    notes: Annotated[
        dict[Identifier, tuple[Milliseconds, Version, str]], Field(description="by id: time, version, text")
    ]
    scans: Annotated[
        dict[Identifier, tuple[str, Milliseconds, Version, str, str, str, EmbeddingText]],
        Field(description="by instance: series, time, version, modality, SHA-256, encoder, embedding"),
    ]
    more: More = False


class HistoryParted(Wire):
    """Made by workers: the merge was undone; what came of that patient until then no longer counts."""

    kind: Literal["history-parted"]
    more: More = False


History = Annotated[HistoryJoined | HistoryParted, Field(discriminator="kind")]
"""Value on `forwarded`, beside those of the topics whose events are forwarded."""


class EncodedScan(Wire):
    """Value on `encoded-scans`: what the imaging worker made of one DICOM instance."""

    study_uid: Identifier
    series_uid: Identifier
    instance_uid: Identifier
    modality: Annotated[str, Field(max_length=16, description="DICOM Modality (0008,0060)")]
    content_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="of the DICOM bytes")]
    encoder: Annotated[str, Field(description="hash of the encoder that made the embedding")]
    embedding: Annotated[EmbeddingText, Field(description="base64 of little-endian float32")]
    scan_topic: str
    scan_partition: int
    scan_offset: int


class Position(Wire):
    """Where an event lies in Kafka."""

    topic: str
    partition: int
    offset: int


class ModalityUse(Wire):
    """What a score knew of one modality."""

    present: bool
    items: Annotated[int, Field(ge=0, description="observations in the window, notes or series used")]
    age_s: Annotated[float | None, Field(description="seconds from its newest item to the time of the score")]


class ConditionScore(Wire):
    """One condition's calibrated probability."""

    condition: str
    probability: float
    low: Annotated[float, Field(description="lower end of the 95 % interval")]
    high: float
    contributions: Annotated[
        dict[Modality, float], Field(description="probability with all modalities minus without this one")
    ]
    set: Annotated[
        tuple[Outcome, ...] | None,
        Field(description="outcomes not ruled out at the artifact's conformal level; null: it has no such sets"),
    ] = None
    abstains: Annotated[bool, Field(description="the set is not one outcome: this score cannot tell")] = False


class Times(Wire):
    """When things happened; RFC 3339, UTC."""

    event: str
    recorded: str
    arrival: Annotated[str, Field(description="when the worker received the triggering event, wall clock")]
    decision: Annotated[str, Field(description="when the score was decided, wall clock")]


class Risk(Wire):
    """Value on `risk`: every score, keyed by patient, compacted to the newest.

    `offsets` says, per input topic, up to which offset of this partition the patient's events were taken; with
    `as_of` and the artifact of `model` the scores can be computed again from exactly those events.
    """

    id: str
    site: str
    patient: str
    encounter: str | None
    as_of: Annotated[str, Field(description="time at which ages were reckoned")]
    newest_event: Annotated[str, Field(description="newest event time of the patient: what the policy's times count")]
    may_page: Annotated[bool, Field(description="false when only late data changed: never raises")]
    scores: tuple[ConditionScore, ...]
    news2: Annotated[int | None, Field(description="National Early Warning Score 2; null when nothing is charted")]
    modalities: dict[Modality, ModalityUse]
    offsets: dict[str, int]
    model: str
    trigger: Position
    trigger_id: Annotated[str, Field(description="ce_id of the triggering event")]
    merged_from: Annotated[tuple[str, ...], Field(description="merged patients whose events are in this score")] = ()
    merged_into: Annotated[
        str | None, Field(description="the patient scored instead of this one, who then has no scores")
    ] = None
    episodes: Annotated[
        dict[str, tuple[Level, tuple[str, int, int], int, int | None, int | None]],
        Field(
            description="alert episodes after this score, by condition: level, topic-partition-offset where it began, "
            "revision, since when below the clearing threshold and when cleared (ms since 1970 of event time)"
        ),
    ] = {}
    times: Times
    stage_ms: Annotated[dict[str, float], Field(description="time spent per stage until the score was decided")]
    traceparent: str | None


class Alert(Wire):
    """Value on `alerts`: a change that somebody should know of. A repeat is byte-identical: drop it by `id`."""

    id: str
    revision: Annotated[int, Field(ge=1, description="counts the changes of one episode")]
    site: str
    patient: str
    encounter: str | None
    condition: str
    level: Level
    action: Action
    reason: Annotated[str, Field(description="why the policy acted, in words, without patient text")]
    probability: float | None
    low: float | None
    high: float | None
    threshold: float | None
    abstains: Annotated[bool, Field(description="the score cannot tell: it may stand under a clearing only")] = False
    modalities: dict[Modality, ModalityUse]
    missing: tuple[Modality, ...]
    contributions: dict[Modality, float]
    news2: int | None
    model: str
    episode: Annotated[Position, Field(description="the event at which the episode began: part of the id")]
    trigger: Position
    trigger_id: str
    merged_from: Annotated[tuple[str, ...], Field(description="merged patients whose events are in the score")] = ()
    as_of: str
    times: Times
    traceparent: str | None


CORRECTION: TypeAdapter[Corrected] = TypeAdapter(Correction)
"""Validates a correction's JSON."""
HISTORY: TypeAdapter[HistoryJoined | HistoryParted] = TypeAdapter(History)
"""Validates what a worker tells another of a merged patient's history."""
