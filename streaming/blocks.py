"""A quarter of an hour of one patient's measurements, packed. Owns order and last-writer-wins; knows no history.

An event changes the block it lies in and no other, so that what it costs does not grow with the history: only that block
is copied, hashed and stored again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from streaming.clock import MINUTE_MS

BLOCK_MS = 15 * MINUTE_MS
RESOLUTION_MS = MINUTE_MS
"""Of one signal's measurements in one minute the newest is kept. Nobody charts faster; a monitor at 1 Hz does."""

CORRECTED_RANK, RETRACTED_RANK = 2, 255
SIGNAL_BITS = 8
ENTRY = np.dtype(
    [("key", "<i8"), ("recorded", "<i8"), ("value", "<f4"), ("version", "<u4"), ("rank", "u1")],
)
"""`key` = time in ms * 256 + signal; 25 bytes an entry. A retraction is an entry of rank 255."""
SIZE = ENTRY.itemsize

_ENTRY = Struct("<qqfIB")
_key_at = Struct("<q").unpack_from
_SORTED_IN = 16
"""So many entries are sorted in at once."""


@dataclass(frozen=True, slots=True)
class Write:
    """One measurement or retraction with what decides between two writers."""

    signal: int
    time_ms: int
    value: float
    rank: int
    recorded_ms: int
    version: int

    def pack(self) -> bytes:
        """As an `ENTRY`."""
        key = self.time_ms << SIGNAL_BITS | self.signal
        value = self.value + 0.0  # of 0 and -0 neither would decide
        return _ENTRY.pack(key, self.recorded_ms, value, self.version, self.rank)


def tag_of(data: bytes) -> bytes:
    """A short hash, which ties to these bytes what was made of them."""
    return blake2b(data, digest_size=12).digest()


@dataclass(slots=True, eq=False)
class Block:
    """Entries sorted by (time, signal), one a signal and minute; times // `BLOCK_MS` are all `index`. Compared by identity,
    and never changed but for `runs`, which are worked out when first asked for."""

    index: int
    entries: bytes
    standing: int = field(init=False)  # entries that are not retractions
    tag: bytes = field(init=False)  # short hash of the entries
    runs: bytes | None = field(init=False, default=None)  # see `runs.py`

    def __post_init__(self) -> None:
        self.standing = len(self.entries) // SIZE - self.entries[SIZE - 1 :: SIZE].count(RETRACTED_RANK)
        self.tag = tag_of(self.entries)

    def put(self, entries: Sequence[bytes]) -> "Block":
        """With these entries of its time applied, in any order: itself when all of them lose."""
        if len(entries) >= _SORTED_IN:
            data = _deciding(np.frombuffer(b"".join([self.entries, *entries]), ENTRY)).tobytes()
        else:
            data = self.entries
            for entry in entries:
                data = _put(data, entry)
        return self if data == self.entries else Block(self.index, data)

    @property
    def number(self) -> int:
        """Of entries, retractions among them."""
        return len(self.entries) // SIZE

    @property
    def newest_ms(self) -> int:
        """Time of its last entry, a retraction or not."""
        return int(_key_at(self.entries, len(self.entries) - SIZE)[0]) >> SIGNAL_BITS

    def newest_of(self, signal: int) -> tuple[int, float] | None:
        """Time in ms and value of this signal's newest entry that stands."""
        signals = self.entries[::SIZE]
        at = signals.rfind(signal)
        while at >= 0:
            key, _, value, _, rank = _ENTRY.unpack_from(self.entries, at * SIZE)
            if rank != RETRACTED_RANK:
                return key >> SIGNAL_BITS, value
            at = signals.rfind(signal, 0, at)
        return None


def blocks_of(data: bytes) -> list[Block]:
    """Packed entries, in any order and any number of a signal and minute, as blocks in order."""
    entries = _deciding(np.frombuffer(data, ENTRY))
    index = (entries["key"] >> SIGNAL_BITS) // BLOCK_MS
    edges = np.flatnonzero(np.diff(index, prepend=index[:1] - 1, append=index[-1:] + 1)).tolist()
    return [Block(int(index[at]), entries[at:to].tobytes()) for at, to in pairwise(edges)]


def entries_of(data: bytes) -> list[bytes]:
    """Packed entries one by one."""
    return [data[at : at + SIZE] for at in range(0, len(data), SIZE)]


def _deciding(entries: NDArray[np.void]) -> NDArray[np.void]:
    """Of each signal and minute the entry that decides, sorted: what `_put` of each in turn gives."""
    group = (entries["key"] >> SIGNAL_BITS) // RESOLUTION_MS << SIGNAL_BITS | entries["key"] & 0xFF
    tier = np.minimum(entries["rank"], CORRECTED_RANK)
    order = np.lexsort(
        [*(entries[name] for name in ("value", "version", "rank", "recorded")), tier, entries["key"], group]
    )
    last = np.flatnonzero(np.diff(group[order], append=group[order[-1:]] + 1))
    found = entries[order[last]]
    return found[found["key"].argsort(kind="stable")]


def _put(data: bytes, entry: bytes) -> bytes:
    """Packed entries with one more, sought from the end since most events come in order: `data` itself when it loses.

    It replaces, or loses to, the one entry of its signal and minute.
    """
    (key,), signal = _key_at(entry), entry[0]
    minute = (key >> SIGNAL_BITS) // RESOLUTION_MS
    size = len(data)
    place = size
    while place and _key_at(data, place - SIZE)[0] > key:
        place -= SIZE
    first = last = place  # of the entries of this minute
    while first and (_key_at(data, first - SIZE)[0] >> SIGNAL_BITS) // RESOLUTION_MS == minute:
        first -= SIZE
    while last < size and (_key_at(data, last)[0] >> SIGNAL_BITS) // RESOLUTION_MS == minute:
        last += SIZE
    found = data[first:last:SIZE].find(signal)
    if found < 0:
        return data[:place] + entry + data[place:]
    held = first + found * SIZE
    if decides(data[held : held + SIZE]) >= decides(entry):
        return data
    return data[:held] + data[held + SIZE : place] + entry + data[place:]  # it is older, so it lies before


def decides(entry: bytes) -> tuple[int, int, int, int, int, float]:
    """What decides between two entries of one signal and minute: time, status, recorded time, event id, value. Of a correction
    and a retraction the later recorded counts, on a tie the retraction."""
    key, recorded, value, version, rank = _ENTRY.unpack(entry)
    return (key >> SIGNAL_BITS, min(rank, CORRECTED_RANK), recorded, rank, version, value)
