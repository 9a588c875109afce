"""HL7 v2 acknowledgments (original mode): AA, AE, AR with MSA and ERR. Texts come from errors, never from the message.

AA: the broker has confirmed every event of the message. AE: the content is refused; sending it again does not help.
AR: unreadable, of a type, version or processing id that is not taken, or (ERR-3 = 207) Kafka is away: send it again.
Source: HL7 v2.8.2 section 2.9.2.2 and tables 0008 (codes), 0357 (errors), 0516 (severity).
"""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from streaming.gateways.er7 import CHARACTER_SETS, Delimiters, Segment, escape

Code = Literal["AA", "AE", "AR"]

SEGMENT_SEQUENCE, REQUIRED_FIELD, DATA_TYPE, TABLE_VALUE = 100, 101, 102, 103
UNSUPPORTED_TYPE, UNSUPPORTED_EVENT, UNSUPPORTED_PROCESSING_ID, UNSUPPORTED_VERSION = 200, 201, 202, 203
UNKNOWN_KEY, INTERNAL_ERROR = 204, 207

_TEXTS = {
    100: "Segment sequence error",
    101: "Required field missing",
    102: "Data type error",
    103: "Table value not found",
    200: "Unsupported message type",
    201: "Unsupported event code",
    202: "Unsupported processing id",
    203: "Unsupported version id",
    204: "Unknown key identifier",
    207: "Application internal error",
}
MOST_ERRORS = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One ERR segment. `place` is segment, sequence and field (`("OBX", 3, 6)`), or None for the whole message."""

    number: int
    text: str
    place: tuple[str, int, int] | None = None
    severity: Literal["W", "E"] = "E"


def acknowledge(header: Segment | None, code: Code, problems: Sequence[Problem], received_ms: int) -> bytes:
    """The answer to a message with this MSH (None when it had no usable one), as bytes in its character set."""
    delimiters = header.delimiters if header is not None else Delimiters()
    sep = delimiters.field
    named = header.component(18) if header is not None else ""
    codec = CHARACTER_SETS.get(named, "ascii")

    def echo(number: int) -> str:
        return _readable(header.raw(number), codec) if header is not None else ""

    event = _readable(header.component(9, 2), codec) if header is not None else ""
    version = (_readable(header.component(12), codec) if header is not None else "") or "2.5.1"
    kind = delimiters.component.join(("ACK", escape(event, delimiters), "ACK") if event else ("ACK",))
    encoding = delimiters.component + delimiters.repetition + delimiters.escape + delimiters.subcomponent
    stamp = f"{datetime.fromtimestamp(received_ms / 1000, UTC):%Y%m%d%H%M%S}+0000"
    own = hashlib.blake2b(f"{echo(10)}|{received_ms}".encode(), digest_size=8).hexdigest()
    msh = ["MSH", encoding, "WARDWATCH", "", echo(3), echo(4), stamp, "", kind, own, "P", escape(version, delimiters)]
    if named in CHARACTER_SETS and named:
        msh += [""] * 5 + [named]
    first = next((problem.text for problem in problems if problem.severity == "E"), "")
    lines = [msh, ["MSA", code, echo(10), escape(first, delimiters)]]
    lines += [_err(problem, delimiters) for problem in problems[:MOST_ERRORS]]
    return "".join(sep.join(line).rstrip(sep) + "\r" for line in lines).encode(codec, "replace")


def _readable(text: str, codec: str) -> str:
    """A value of the header (which was read as Latin-1) in its own character set, without control characters."""
    with contextlib.suppress(UnicodeError):
        text = text.encode("iso8859-1").decode(codec)
    return "".join(c if c.isprintable() else "?" for c in text)


def _err(problem: Problem, delimiters: Delimiters) -> list[str]:
    where = ""
    if problem.place is not None:
        where = delimiters.component.join(str(part) for part in problem.place)
    named = delimiters.component.join((str(problem.number), _TEXTS[problem.number], "HL70357"))
    return ["ERR", "", where, named, problem.severity, "", "", "", escape(problem.text, delimiters)]
