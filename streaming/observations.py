"""A patient's measurements as one sorted array. Owns order, last-writer-wins and expiry; knows no messages.

Every operation is order-free: any order and any repetition of the same writes gives the same array. That holds
because a write either wins or loses by its own attributes (status, recorded time, event id), never by when it came,
and because what expires is decided by the newest time ever written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.signals import SIGNALS
from models.window import HOURS, WINDOW_FIELDS, PatientWindow, WindowBatch, build_windows
from streaming.clock import HOUR_MS

RETENTION_MS = HOURS * HOUR_MS
"""What the model's window can see is kept; older measurements have left history."""

RETRACTED_RANK = 255
_SIGNAL_BITS = 8
_SORTED_IN = 16
"""So many writes are sorted in at once: one by one each would copy the history."""
_FARTHEST_MS = 1 << 48  # from 1970, some 8,900 years

ENTRY = np.dtype(
    [("key", "<i8"), ("recorded", "<i8"), ("value", "<f4"), ("version", "<u4"), ("rank", "u1")],
)
"""`key` = time in ms * 256 + signal; 25 bytes an entry. A retraction is an entry of rank 255."""

ALL = np.arange(len(SIGNALS))
STATIC = frozenset(index for index, signal in enumerate(SIGNALS) if signal.kind == "static")


@dataclass(frozen=True, slots=True)
class Write:
    """One measurement or retraction with what decides between two writers."""

    signal: int
    time_ms: int
    value: float
    rank: int
    recorded_ms: int
    version: int


def _empty() -> NDArray[np.void]:
    return np.empty(0, ENTRY)


@dataclass(frozen=True, slots=True)
class Observations:
    """Entries sorted by (time, signal), one per pair; never changed in place. `static` keeps one entry a signal."""

    entries: NDArray[np.void] = field(default_factory=_empty)
    static: NDArray[np.void] = field(default_factory=_empty)

    def put(self, write: Write) -> "Observations":
        """With this write applied: itself when the write loses or lies before history."""
        entry = _entries([write])
        if write.signal in STATIC:
            return self._put_static(entry, write)
        entries = self.entries
        if len(entries):
            newest = int(entries["key"][-1]) >> _SIGNAL_BITS
            if write.time_ms <= newest - RETENTION_MS:
                return self
        at = int(entries["key"].searchsorted(entry["key"][0]))
        if at < len(entries) and entries["key"][at] == entry["key"][0]:
            if _order(entries[at]) >= _order(entry[0]):
                return self
            entries = _placed(entries, at, entry, over=1)
        else:
            entries = _placed(entries, at, entry, over=0)
        if at == len(entries) - 1:  # the newest time moved: expire what fell out of history
            first = int(entries["key"].searchsorted((write.time_ms - RETENTION_MS + 1) << _SIGNAL_BITS))
            entries = entries[first:]
        return Observations(entries, self.static)

    def put_all(self, writes: Sequence[Write]) -> "Observations":
        """What `put` of each in turn gives."""
        if len(writes) < _SORTED_IN:
            done = self
            for write in writes:
                done = done.put(write)
            return done
        timed = [write for write in writes if write.signal not in STATIC]
        static = [write for write in writes if write.signal in STATIC]
        return self.union([Observations(_entries(timed), _entries(static))])

    def _put_static(self, entry: NDArray[np.void], write: Write) -> "Observations":
        kept = self.static
        at = int((kept["key"] & 0xFF).searchsorted(write.signal))
        if at < len(kept) and int(kept["key"][at]) & 0xFF == write.signal:
            if (int(kept["key"][at]), *_order(kept[at])) >= (int(entry["key"][0]), *_order(entry[0])):
                return self
            return Observations(self.entries, _placed(kept, at, entry, over=1))
        return Observations(self.entries, _placed(kept, at, entry, over=0))

    def union(self, others: Sequence["Observations"]) -> "Observations":
        """What all their writes into one would have given; itself when the others add nothing."""
        if not others:
            return self
        entries = np.concatenate([self.entries, *(one.entries for one in others)])
        entries = _winners(entries, entries["key"])
        if len(entries):
            newest = int(entries["key"][-1]) >> _SIGNAL_BITS
            first = int(entries["key"].searchsorted((newest - RETENTION_MS + 1) << _SIGNAL_BITS))
            entries = entries[first:]
        static = np.concatenate([self.static, *(one.static for one in others)])
        static = _winners(static, static["key"] & 0xFF)
        if entries.tobytes() == self.entries.tobytes() and static.tobytes() == self.static.tobytes():
            return self
        return Observations(entries, static)

    def _valid(self) -> NDArray[np.void]:
        stands = self.entries["rank"] != RETRACTED_RANK
        return self.entries if stands.all() else self.entries[stands]

    @property
    def count(self) -> int:
        """Measurements in history, retracted and static ones not counted."""
        return len(self._valid())

    @property
    def newest_ms(self) -> int | None:
        """Time of the newest measurement that stands: the window's anchor."""
        valid = self._valid()
        return int(valid["key"][-1]) >> _SIGNAL_BITS if len(valid) else None

    def window(self) -> PatientWindow | None:
        """The model's view, anchored at the newest measurement; None when nothing is measured."""
        if not len(self._valid()):
            return None
        batch = windows([self])
        return PatientWindow(*(getattr(batch, name)[0] for name in WINDOW_FIELDS))

    def latest(self, signals: NDArray[np.intp] = ALL) -> dict[int, tuple[int, float]]:
        """Of each of these signals its newest standing (time in ms, value in canonical units)."""
        found: dict[int, tuple[int, float]] = {}
        for source in (self.static, self._valid()):
            if not len(source):
                continue
            newest = np.full(len(SIGNALS), -1)
            newest[source["key"] & 0xFF] = np.arange(len(source))  # of repeated indices NumPy keeps the last
            newest = newest[signals]
            chosen = source[newest[newest >= 0]]
            for key, value in zip(chosen["key"].tolist(), chosen["value"].tolist(), strict=True):
                found[key & 0xFF] = (key >> _SIGNAL_BITS, value)
        return found

    def pack(self) -> bytes:
        return len(self.static).to_bytes(2, "little") + self.static.tobytes() + self.entries.tobytes()

    @classmethod
    def unpack(cls, data: bytes) -> "Observations":
        count = int.from_bytes(data[:2], "little")
        middle = 2 + count * ENTRY.itemsize
        return cls(
            entries=np.frombuffer(data[middle:], ENTRY),
            static=np.frombuffer(data[2:middle], ENTRY),
        )

    @classmethod
    def unpack_checked(cls, data: bytes) -> "Observations":
        """What `pack` gave, when it comes from elsewhere than this worker's own store.

        Raises:
            ValueError: it cannot be such.
        """
        count = int.from_bytes(data[:2], "little")
        if len(data) < 2 or (len(data) - 2) % ENTRY.itemsize or 2 + count * ENTRY.itemsize > len(data):
            raise ValueError("not packed measurements")
        found = cls.unpack(data)
        for entries, static in ((found.entries, False), (found.static, True)):
            signals = entries["key"] & 0xFF
            group = signals if static else entries["key"]
            known = (signals < len(SIGNALS)).all() and (np.isin(signals, list(STATIC)) == static).all()
            if not known or (group[1:] <= group[:-1]).any():
                raise ValueError("measurements are of no known signal, or not in order")
            if not np.isfinite(entries["value"]).all() or (np.abs(entries["key"] >> _SIGNAL_BITS) > _FARTHEST_MS).any():
                raise ValueError("a measurement is no number, or of no year")
        return found


def windows(patients: Sequence[Observations]) -> WindowBatch:
    """The model's view of each, all of whom have measurements, anchored at each one's newest: `Observations.window`."""
    entries = [one._valid() for one in patients]
    anchor_ms = np.array([key["key"][-1] for key in entries]) >> _SIGNAL_BITS
    parts = [part for one, valid in zip(patients, entries, strict=True) for part in (one.static, valid)]
    key = np.concatenate([part["key"] for part in parts])
    value = np.concatenate([part["value"] for part in parts])
    lengths = [len(one.static) + len(valid) for one, valid in zip(patients, entries, strict=True)]
    row = np.repeat(np.arange(len(patients)), lengths)
    return build_windows(key >> _SIGNAL_BITS, key & 0xFF, value, row, anchor_ms)


def _entries(writes: Sequence[Write]) -> NDArray[np.void]:
    return np.array(
        [
            (write.time_ms << _SIGNAL_BITS | write.signal, write.recorded_ms, write.value, write.version, write.rank)
            for write in writes
        ],
        ENTRY,
    )


def _placed(entries: NDArray[np.void], at: int, entry: NDArray[np.void], over: int) -> NDArray[np.void]:
    """A copy with `entry` at `at`, over so many old ones (0 or 1). `np.concatenate` promotes dtypes field by field."""
    made = np.empty(len(entries) + 1 - over, ENTRY)
    made[:at], made[at], made[at + 1 :] = entries[:at], entry[0], entries[at + over :]
    return made


def _winners(entries: NDArray[np.void], group: NDArray[np.int64]) -> NDArray[np.void]:
    """Of the entries of each group the one that decides, by time and then by `_order`; sorted by group."""
    order = np.lexsort([entries[name] for name in ("value", "version", "recorded", "rank", "key")] + [group])
    entries, group = entries[order], group[order]
    return entries[np.append(group[1:] != group[:-1], True)[: len(entries)]]


def _order(entry: np.void) -> tuple[int, int, int, float]:
    """What decides between two entries of one time and signal: status, recorded time, event id, value."""
    rank, recorded, version = int(entry["rank"]), int(entry["recorded"]), int(entry["version"])
    return (rank, recorded, version, float(entry["value"]))
