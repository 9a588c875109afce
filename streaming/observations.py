"""A patient's measurements: quarters of an hour (`blocks.py`) in order, static facts beside them. Knows no messages.

Every operation is order-free: any order and any repetition of the same writes gives the same measurements. That holds
because a write either wins or loses by its own attributes (time within its minute, status, recorded time, event id),
never by when it came, and because what expires is decided by the newest time ever written.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.signals import SIGNALS
from models.window import HOURS, WINDOW_FIELDS, PatientWindow, Sums, WindowBatch, build_windows
from streaming.blocks import (
    BLOCK_MS,
    ENTRY,
    RETRACTED_RANK,
    SIGNAL_BITS,
    SIZE,
    Block,
    Write,
    blocks_of,
    decides,
    entries_of,
    tag_of,
)
from streaming.clock import HOUR_MS
from streaming.runs import LONG, RUN, not_summed, runs_of, uncut

WINDOW_MS = HOURS * HOUR_MS
"""What the model sees: measurements younger than this at the newest one that stands."""
BLOCKS = WINDOW_MS // BLOCK_MS + 1
"""So many blocks at most hold it, and are kept: the block that this time before the newest entry lies in, and all newer."""

_FARTHEST_MS = 1 << 48  # from 1970, some 8,900 years

ALL = range(len(SIGNALS))
STATIC = frozenset(index for index, signal in enumerate(SIGNALS) if signal.kind == "static")

Newest = Mapping[int, tuple[int, float]]  # by signal its newest standing (time in ms, value in canonical units)


@dataclass(frozen=True, slots=True)
class Observations:
    """Never changed in place. `static` keeps one entry a signal, sorted by signal; the rest follows from the blocks."""

    blocks: tuple[Block, ...] = ()
    static: bytes = b""
    newest: Newest = field(default_factory=dict)
    standing: int = 0  # measurements in the blocks that are not retracted

    @classmethod
    def of(cls, blocks: Iterable[Block], static: bytes) -> "Observations":
        """Blocks in any order, of which too old ones are left out."""
        kept = _kept(tuple(sorted(blocks, key=lambda block: block.index)))
        return cls(kept, static, _newest(kept), _standing(kept))

    def put(self, write: Write) -> "Observations":
        """With this write applied: itself when the write loses or lies before history."""
        return self.put_all([write])

    def put_all(self, writes: Sequence[Write]) -> "Observations":
        """What `put` of each in turn gives."""
        static, by_block = self.static, dict[int, list[Write]]()
        for write in writes:
            if write.signal in STATIC:
                static = _put_static(static, write.pack())
            else:
                by_block.setdefault(write.time_ms // BLOCK_MS, []).append(write)
        blocks, newest, standing = self.blocks, self.newest, self.standing
        for index, some in by_block.items():
            place = _place(blocks, index)
            there = place < len(blocks) and blocks[place].index == index
            held = blocks[place] if there else Block(index, b"")
            block = held.put([write.pack() for write in some])
            if block is not held:
                blocks = (*blocks[:place], block, *blocks[place + there :])
                newest = _renewed(newest, blocks, place, {write.signal for write in some})
                standing += block.standing - held.standing
        kept = _kept(blocks)
        if kept is not blocks:
            newest = {signal: one for signal, one in newest.items() if one[0] // BLOCK_MS >= kept[0].index}
            standing = _standing(kept)
        return self if kept == self.blocks and static is self.static else Observations(kept, static, newest, standing)

    def union(self, others: Sequence["Observations"]) -> "Observations":
        """What all their writes into one would have given; itself when the others add nothing."""
        blocks, static = {block.index: block for block in self.blocks}, self.static
        differing: dict[int, list[bytes]] = {}
        for other in others:
            for block in other.blocks:
                held = blocks.setdefault(block.index, block)
                if held.entries != block.entries:
                    differing.setdefault(block.index, []).append(block.entries)
            for entry in entries_of(other.static):
                static = _put_static(static, entry)
        of_all = [blocks[index].entries + b"".join(some) for index, some in differing.items()]
        for block in blocks_of(b"".join(of_all)):
            if block.entries != blocks[block.index].entries:
                blocks[block.index] = block
        kept = _kept(tuple(blocks[index] for index in sorted(blocks)))
        if kept == self.blocks and static == self.static:
            return self
        return Observations(kept, static, _newest(kept), _standing(kept))

    @property
    def entries(self) -> NDArray[np.void]:
        """All but static ones, by time and signal, retractions among them: `ENTRY`."""
        return np.frombuffer(b"".join([block.entries for block in self.blocks]), ENTRY)

    @property
    def newest_ms(self) -> int | None:
        """Time of the newest measurement that stands: the window's anchor."""
        return max(time_ms for time_ms, _ in self.newest.values()) if self.newest else None

    @property
    def cold(self) -> bool:
        """Whether telling the model of it takes milliseconds, this time: it is long, and was not told yet."""
        return self.standing >= LONG and not_summed(self.blocks)

    @property
    def count(self) -> int:
        """Measurements that the model sees, static ones not counted."""
        anchor_ms = self.newest_ms
        if anchor_ms is None:
            return 0
        seen = self.standing
        for block in self.blocks:
            if block.index * BLOCK_MS > anchor_ms - WINDOW_MS:
                break
            entries = np.frombuffer(block.entries, ENTRY)
            unseen = entries["key"] >> SIGNAL_BITS <= anchor_ms - WINDOW_MS
            seen -= int((unseen & (entries["rank"] != RETRACTED_RANK)).sum())
        return seen

    def window(self) -> PatientWindow | None:
        """The model's view, anchored at the newest measurement; None when nothing is measured."""
        if not self.newest:
            return None
        batch = windows([self])
        return PatientWindow(*(getattr(batch, name)[0] for name in WINDOW_FIELDS))

    def latest(self, signals: Collection[int] = ALL) -> dict[int, tuple[int, float]]:
        """Of each of these signals its newest standing (time in ms, value in canonical units) that the model sees."""
        anchor_ms = self.newest_ms
        found = {}
        for signal in signals:
            one = self.newest.get(signal)
            if one is not None and anchor_ms is not None and one[0] > anchor_ms - WINDOW_MS:
                found[signal] = one
        if self.static:
            static = np.frombuffer(self.static, ENTRY)
            for key, value in zip(static["key"].tolist(), static["value"].tolist(), strict=True):
                if key & 0xFF in signals:
                    found[key & 0xFF] = (key >> SIGNAL_BITS, value)
        return found

    def tag(self) -> str:
        """A short hash of all of it."""
        return tag_of(b"".join([self.static, *(block.tag for block in self.blocks)])).hex()

    def pack(self) -> bytes:
        """All of it as one string of bytes."""
        size = (len(self.static) // SIZE).to_bytes(2, "little")
        return b"".join([size, self.static, *(block.entries for block in self.blocks)])

    @classmethod
    def unpack(cls, data: bytes) -> "Observations":
        """What `pack` gave."""
        middle = 2 + int.from_bytes(data[:2], "little") * SIZE
        return cls.of(blocks_of(data[middle:]), data[2:middle])

    @classmethod
    def unpack_checked(cls, data: bytes) -> "Observations":
        """What `pack` gave, when it comes from elsewhere than this worker's own store.

        Raises:
            ValueError: it cannot be such.
        """
        middle = 2 + int.from_bytes(data[:2], "little") * SIZE
        if len(data) < 2 or (len(data) - 2) % SIZE or middle > len(data):
            raise ValueError("not packed measurements")
        for part, static in ((data[middle:], False), (data[2:middle], True)):
            entries = np.frombuffer(part, ENTRY)
            signals = entries["key"] & 0xFF
            group = signals if static else entries["key"]
            known = (signals < len(SIGNALS)).all() and (np.isin(signals, list(STATIC)) == static).all()
            if not known or (group[1:] <= group[:-1]).any():
                raise ValueError("measurements are of no known signal, or not in order")
            if not np.isfinite(entries["value"]).all() or (np.abs(entries["key"] >> SIGNAL_BITS) > _FARTHEST_MS).any():
                raise ValueError("a measurement is no number, or of no year")
        return cls.unpack(data)


def windows(patients: Sequence[Observations]) -> WindowBatch:
    """The model's view of each, all of whom have measurements, anchored at each one's newest: `Observations.window`."""
    anchor_ms = np.array([one.newest_ms for one in patients])
    parts, by_runs = [], []
    for one, anchor in zip(patients, anchor_ms.tolist(), strict=True):
        summed = uncut(one.blocks, anchor) if one.standing >= LONG else []
        by_runs.append(runs_of(summed))
        apart = set(summed)
        parts.append(b"".join([one.static, *(block.entries for block in one.blocks if block not in apart)]))
    entries = np.frombuffer(b"".join(parts), ENTRY)
    row = np.repeat(np.arange(len(patients)), [len(part) // SIZE for part in parts])
    time_ms, signal, value = entries["key"] >> SIGNAL_BITS, entries["key"] & 0xFF, entries["value"].copy()
    chosen = (entries["rank"] != RETRACTED_RANK) & ((time_ms > anchor_ms[row] - WINDOW_MS) | _IS_STATIC[signal])
    if not chosen.all():
        time_ms, signal, value, row = time_ms[chosen], signal[chosen], value[chosen], row[chosen]
    if not any(by_runs):
        return build_windows(time_ms, signal, value, row, anchor_ms)
    runs = np.frombuffer(b"".join(by_runs), RUN)
    each, number = np.ones(len(value)), value.astype(np.float64)
    told = [
        (time_ms, runs["time"]), (signal, runs["signal"]), (value, runs["last"]),
        (row, np.repeat(np.arange(len(patients)), [len(part) // RUN.itemsize for part in by_runs])),
        (each, runs["count"]), (number, runs["total"]), (number * number, runs["square"]),
        (number, runs["low"]), (number, runs["high"]), (value, runs["first"]),
    ]  # fmt: skip
    order = np.concatenate(told[0]).argsort(kind="stable")
    time_ms, signal, value, row, *sums = (np.concatenate(both)[order] for both in told)
    return build_windows(time_ms, signal, value, row, anchor_ms, Sums(*sums))


_IS_STATIC = np.array([index in STATIC for index in ALL])


def _place(blocks: Sequence[Block], index: int) -> int:
    """Where this block is or would be, sought from the end since most events come in order."""
    place = len(blocks)
    while place and blocks[place - 1].index >= index:
        place -= 1
    return place


def _kept(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """Without those that have left history; the same tuple when none has."""
    if not blocks:
        return blocks
    oldest = (blocks[-1].newest_ms - WINDOW_MS) // BLOCK_MS
    return blocks if blocks[0].index >= oldest else tuple(block for block in blocks if block.index >= oldest)


def _newest(blocks: Sequence[Block]) -> Newest:
    entries = np.frombuffer(b"".join([block.entries for block in blocks]), ENTRY)
    places = np.flatnonzero(entries["rank"] != RETRACTED_RANK)
    last = np.full(len(SIGNALS), -1)
    last[entries["key"][places] & 0xFF] = places  # of repeated indices NumPy keeps the last
    found = entries[last[last >= 0]]
    keys, values = found["key"].tolist(), found["value"].tolist()
    return {key & 0xFF: (key >> SIGNAL_BITS, value) for key, value in zip(keys, values, strict=True)}


def _standing(blocks: Iterable[Block]) -> int:
    return sum(block.standing for block in blocks)


def _renewed(newest: Newest, blocks: Sequence[Block], place: int, signals: Iterable[int]) -> Newest:
    """`newest` after the block at `place` has changed in these signals."""
    found = dict(newest)
    for signal in signals:
        if signal in found and found[signal][0] // BLOCK_MS > blocks[place].index:
            continue
        found.pop(signal, None)
        for at in range(place, -1, -1):
            one = blocks[at].newest_of(signal)
            if one is not None:
                found[signal] = one
                break
    return found


def _put_static(static: bytes, entry: bytes) -> bytes:
    """With this entry, unless the one held of its signal decides: then `static` itself."""
    signals = static[::SIZE]
    signal = entry[0]
    at = signals.find(signal) * SIZE
    if at >= 0:
        if decides(static[at : at + SIZE]) >= decides(entry):
            return static
        return static[:at] + entry + static[at + SIZE :]
    at = sum(held < signal for held in signals) * SIZE
    return static[:at] + entry + static[at:]
