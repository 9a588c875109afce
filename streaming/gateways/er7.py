"""HL7 v2 syntax (ER7, "pipes and hats"): bytes to segments and fields, escapes, character sets. Pure; knows no message.

A thin splitter of our own rather than the `hl7` package (0.4.5, measured on mutated messages): that lets KeyError,
IndexError and AssertionError out for bad input and logs the content of a field it cannot unescape.
Source: HL7 v2.8.2 chapter 2, sections 2.5 (delimiters), 2.7 (escapes); table 0211 (character sets).
"""

import re
from dataclasses import dataclass

from streaming.errors import InvalidMessage

CHARACTER_SETS = {
    "": "ascii",
    "ASCII": "ascii",
    "8859/1": "iso8859-1",
    "8859/15": "iso8859-15",
    "UNICODE UTF-8": "utf-8",
}
"""MSH-18 to a codec. An empty MSH-18 is ASCII, by the standard."""

MOST_SEGMENTS = 20_000
_SEGMENT_NAME = re.compile(r"[A-Z][A-Z0-9]{2}", re.ASCII)
_TYPES_OF_BREAK = {".br": "\n", ".sp": "\n", ".ce": "\n"}


@dataclass(frozen=True, slots=True)
class Delimiters:
    """The five characters of MSH-1 and MSH-2."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment. `fields[n]` is field n as it came, escapes and all; `fields[0]` is the name."""

    name: str
    fields: tuple[str, ...]
    delimiters: Delimiters
    codec: str

    def raw(self, number: int) -> str:
        return self.fields[number] if number < len(self.fields) else ""

    def text(self, number: int) -> str:
        """The whole field, unescaped."""
        return unescape(self.raw(number), self.delimiters, self.codec)

    def repetitions(self, number: int) -> list[list[str]]:
        """Each repetition's components, unescaped; none for an empty field. HL7's null ("") counts as empty."""
        raw = self.raw(number)
        if not raw:
            return []
        return [
            self._plain(repetition, self.delimiters.component) for repetition in raw.split(self.delimiters.repetition)
        ]

    def component(self, number: int, place: int = 1) -> str:
        """One component of the field's first repetition, unescaped; places count from 1."""
        found = self.repetitions(number)
        return found[0][place - 1].strip() if found and place <= len(found[0]) else ""

    def subcomponents(self, number: int, place: int) -> list[list[str]]:
        """Of each repetition the subcomponents of one component, as `repetitions` gives components."""
        raw = self.raw(number)
        if not raw:
            return []
        found = []
        for repetition in raw.split(self.delimiters.repetition):
            parts = repetition.split(self.delimiters.component)
            found.append(self._plain(parts[place - 1] if place <= len(parts) else "", self.delimiters.subcomponent))
        return found

    def is_null(self, number: int) -> bool:
        """Whether the field holds HL7's null ("") and nothing else: its sender deletes what was there."""
        split = re.escape(self.delimiters.repetition + self.delimiters.component)
        return {part for part in re.split(f"[{split}]", self.raw(number)) if part} == {'""'}

    def _plain(self, text: str, separator: str) -> list[str]:
        return ["" if part == '""' else unescape(part, self.delimiters, self.codec) for part in text.split(separator)]


@dataclass(frozen=True, slots=True)
class Message:
    """Segments in order; the first is MSH."""

    segments: tuple[Segment, ...]

    @property
    def header(self) -> Segment:
        return self.segments[0]


def read_header(data: bytes) -> Segment:
    """The MSH segment alone, read as Latin-1: enough to answer a message whose rest is broken.

    Raises:
        InvalidMessage: bad-hl7, when the bytes do not begin with a usable MSH.
    """
    line = re.split(rb"[\r\n]", data[:65_536], maxsplit=1)[0].decode("iso8859-1")
    if not line.startswith("MSH") or len(line) < 8:
        raise InvalidMessage("bad-hl7", "the message does not begin with MSH")
    separator = line[3]
    encoding = line[4:].split(separator, 1)[0]
    characters = separator + encoding[:4]
    if len(encoding) not in (4, 5) or len(set(characters)) != 5 or any(_is_content(one) for one in characters):
        raise InvalidMessage("bad-hl7", "MSH-1 and MSH-2 do not name five different delimiters")
    delimiters = Delimiters(separator, *encoding[:4])
    return _segment(line, delimiters, "iso8859-1")


def parse(data: bytes) -> Message:
    """The message.

    Raises:
        InvalidMessage: bad-hl7.
    """
    header = read_header(data)
    codec = CHARACTER_SETS.get(header.component(18))
    if codec is None:
        raise InvalidMessage("bad-hl7", "MSH-18 names a character set that is not taken here")
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        raise InvalidMessage(
            "bad-hl7", "the bytes are not in the character set of MSH-18 (empty means ASCII)"
        ) from None
    if "\0" in text:
        raise InvalidMessage("bad-hl7", "there is a NUL character")
    # CR ends a segment; files that went through an editor have LF or both.
    lines = [line for line in re.split(r"\r\n?|\n" if "\r" not in text else r"\r\n?", text) if line.strip()]
    if len(lines) > MOST_SEGMENTS:
        raise InvalidMessage("bad-hl7", f"more than {MOST_SEGMENTS} segments")
    segments = tuple(_segment(line, header.delimiters, codec) for line in lines)
    if any(segment.name == "MSH" for segment in segments[1:]):
        # Read as one, the second message's results would be the first one's, whatever its own header says.
        raise InvalidMessage("bad-hl7", "a second MSH: a frame holds one message")
    return Message(segments)


def unescape(text: str, delimiters: Delimiters, codec: str) -> str:
    """The text with its escape sequences replaced. Formatting that has no plain form is dropped; what is no escape
    sequence of the standard stays as it is.
    """
    mark = delimiters.escape
    if mark not in text:
        return text
    plain = {
        "F": delimiters.field, "S": delimiters.component, "T": delimiters.subcomponent, "R": delimiters.repetition,
        "E": mark, "H": "", "N": "",
    }  # fmt: skip

    def replaced(match: re.Match[str]) -> str:
        body = match.group(1)
        if body in plain:
            return plain[body]
        if body[:3] in _TYPES_OF_BREAK:
            return _TYPES_OF_BREAK[body[:3]]
        if body.startswith("."):
            return " "
        if body.startswith("X"):
            try:
                return bytes.fromhex(body[1:]).decode(codec)
            except ValueError:
                return match.group(0)
        return match.group(0)

    quoted = re.escape(mark)
    return re.sub(f"{quoted}([^{quoted}]{{0,64}}){quoted}", replaced, text)


def escape(text: str, delimiters: Delimiters) -> str:
    """The text with its delimiters and line ends escaped, for a field of an answer."""
    names = {
        delimiters.escape: "E", delimiters.field: "F", delimiters.component: "S", delimiters.repetition: "R",
        delimiters.subcomponent: "T", "\r": "X0D", "\n": "X0A",
    }  # fmt: skip
    return "".join(f"{delimiters.escape}{names[c]}{delimiters.escape}" if c in names else c for c in text)


def _segment(line: str, delimiters: Delimiters, codec: str) -> Segment:
    name = line[:3]
    if not _SEGMENT_NAME.fullmatch(name) or line[3:4] not in ("", delimiters.field):
        raise InvalidMessage("bad-hl7", "a line does not begin with a segment's name")
    fields = line.split(delimiters.field)
    if name == "MSH":
        fields.insert(1, delimiters.field)  # MSH-1 is the separator itself
    return Segment(name, tuple(fields), delimiters, codec)


def _is_content(character: str) -> bool:
    return not character.isascii() or character.isalnum() or not character.isprintable() or character.isspace()
