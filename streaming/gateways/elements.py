"""Some elements of a DICOM data set, cut out without reading the rest: work and memory stay bounded whatever it holds.

pydicom reads every item of a sequence of undefined length, wanted or not: 1.6 MB of empty ones take it 8 s and 130 MB.
Here lengths are followed, sequences of undefined length are walked through and nothing of them is kept.
Source: DICOM PS3.5 sections 7.1 (elements, their ascending order), 7.5 (sequences) and 6.2.2 note 2 (UN of undefined
length is a sequence in implicit VR).
"""

import struct
from collections.abc import Collection

from streaming.errors import InvalidMessage

MOST_STEPS = 100_000
"""Elements, items and delimiters looked at, a quarter of a second; 10,000 referenced instances have half of them."""
MOST_NESTING = 16
MOST_VALUE_BYTES = 4096
"""Of one wanted element: identifiers and times have 64 characters, a sequence of them few more."""

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""Value representations whose length has 32 bits in explicit VR."""


def cut(data: bytes, start: int, little_endian: bool, wanted: Collection[int]) -> bytes:
    """The wanted elements of the data set that begins at `start`, as they stand there. Ends after the highest tag.

    Raises:
        InvalidMessage: decode-limit above the bounds; bad-dicom when an element is there twice or runs over the end.
    """
    walk = _Walk(data, start, little_endian)
    highest, found = max(wanted), {}
    while walk.at < len(data):
        begin = walk.at
        tag, length, explicit = walk.element(walk.explicit)
        if tag > highest:
            break
        if length == _UNDEFINED:
            walk.skip_sequence(explicit)
        else:
            walk.at += length
        if tag in wanted:
            if tag in found:
                raise InvalidMessage("bad-dicom", "an element is there twice")
            if walk.at - begin > MOST_VALUE_BYTES:
                raise InvalidMessage("decode-limit", f"an identifier or time has more than {MOST_VALUE_BYTES} bytes")
            if walk.at > len(data):
                raise InvalidMessage("bad-dicom", "an element runs over the end")
            found[tag] = data[begin : walk.at]
    return b"".join(found.values())


class _Walk:
    """A place in the data set that moves on. Which VR encoding it has is told by its first element, as pydicom does."""

    def __init__(self, data: bytes, at: int, little_endian: bool) -> None:
        self.at = at
        self.explicit = data[at + 4 : at + 6].isalpha() and data[at + 4 : at + 6].isupper()
        self._data, self._steps = data, 0
        order = "<" if little_endian else ">"
        self._tag, self._short, self._word = (struct.Struct(order + form) for form in ("HH", "H", "L"))

    def element(self, explicit: bool) -> tuple[int, int, bool]:
        """Tag, length and whether its content is in explicit VR; goes to its value."""
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise InvalidMessage("decode-limit", f"more than {MOST_STEPS} elements and items in the header")
        at = self.at
        try:
            group, number = self._tag.unpack_from(self._data, at)
            if not explicit or group == 0xFFFE:
                length, self.at = self._word.unpack_from(self._data, at + 4)[0], at + 8
            elif (vr := self._data[at + 4 : at + 6]) in _LONG:
                length, self.at = self._word.unpack_from(self._data, at + 8)[0], at + 12
                explicit = explicit and not (vr == b"UN" and length == _UNDEFINED)
            else:
                length, self.at = self._short.unpack_from(self._data, at + 6)[0], at + 8
        except struct.error:
            raise InvalidMessage("bad-dicom", "the data set ends within an element") from None
        return group << 16 | number, length, explicit

    def skip_sequence(self, explicit: bool) -> None:
        """From the first item of a sequence of undefined length to behind its delimiter."""
        open_sequences = [explicit]
        in_item = False
        while open_sequences:
            tag, length, content = self.element(open_sequences[-1])
            if tag == _SEQUENCE_END:
                open_sequences.pop()
                in_item = True  # of the sequence around it, where there is one
            elif tag in (_ITEM, _ITEM_END):
                in_item = tag == _ITEM and length == _UNDEFINED
                if tag == _ITEM and length != _UNDEFINED:
                    self.at += length
            elif not in_item:
                raise InvalidMessage("bad-dicom", "a sequence holds something else than items")
            elif length == _UNDEFINED:
                if len(open_sequences) == MOST_NESTING:
                    raise InvalidMessage("decode-limit", f"more than {MOST_NESTING} sequences in one another")
                open_sequences.append(content)
                in_item = False
            else:
                self.at += length
