"""Long histories, told to the model by runs: what each signal was in a block, summed up once and kept with the block.

A block that no edge of the window's bins cuts is told so; of a long history most are. So what an event costs hardly grows
with its patient's history. Which blocks are told by runs follows from the history alone, so that figures, down to their
last bit, do too.
"""

from collections.abc import Sequence

import numpy as np

from models.window import BIN_MS, BINS
from streaming.blocks import BLOCK_MS, ENTRY, RETRACTED_RANK, SIGNAL_BITS, Block

LONG = 3_000
"""Measurements from which on a history is told by runs; below, measurement by measurement costs less."""

RUN = np.dtype(
    [
        ("time", "<i8"), ("signal", "u1"), ("count", "<u2"), ("first", "<f4"), ("last", "<f4"), ("low", "<f4"),
        ("high", "<f4"), ("total", "<f8"), ("square", "<f8"),
    ]
)  # fmt: skip
"""One signal's standing measurements of a block; `time` is the newest one's."""


def uncut(blocks: Sequence[Block], anchor_ms: int) -> list[Block]:
    """Those that lie within one bin of the window that ends at `anchor_ms`; the window's edges are edges of bins."""
    edges = [anchor_ms - back * BIN_MS for back in range(BINS + 1)]
    cut = {edge // BLOCK_MS for edge in edges}
    oldest, newest = edges[-1] // BLOCK_MS, anchor_ms // BLOCK_MS
    return [block for block in blocks if oldest < block.index < newest and block.index not in cut]


def not_summed(blocks: Sequence[Block]) -> bool:
    """Whether `runs_of` would have many to sum up: more than lie at edges, which are not asked for."""
    return sum(block.runs is None for block in blocks) > 2 * (BINS + 1)


def runs_of(blocks: Sequence[Block]) -> bytes:
    """Their `RUN`s, by block and signal."""
    _sum_up([block for block in blocks if block.runs is None])
    return b"".join([block.runs or b"" for block in blocks])


def _sum_up(blocks: Sequence[Block]) -> None:
    if not blocks:
        return
    entries = np.frombuffer(b"".join([block.entries for block in blocks]), ENTRY)
    block = np.repeat(np.arange(len(blocks)), [block.number for block in blocks])
    stands = entries["rank"] != RETRACTED_RANK
    entries, block = entries[stands], block[stands]
    if not len(entries):
        for one in blocks:
            one.runs = b""
        return
    group = block << SIGNAL_BITS | entries["key"] & 0xFF
    order = group.argsort(kind="stable")  # by block and signal, and by time within these
    entries, group = entries[order], group[order]
    first = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
    last = np.append(first[1:], len(group)) - 1
    number = entries["value"].astype(np.float64)
    runs = np.empty(len(first), RUN)
    runs["time"], runs["signal"] = entries["key"][last] >> SIGNAL_BITS, group[first] & 0xFF
    runs["count"], runs["first"], runs["last"] = last - first + 1, number[first], number[last]
    runs["low"], runs["high"] = np.minimum.reduceat(number, first), np.maximum.reduceat(number, first)
    runs["total"], runs["square"] = np.add.reduceat(number, first), np.add.reduceat(number * number, first)
    ends = (group[first] >> SIGNAL_BITS).searchsorted(np.arange(len(blocks) + 1))
    for one, start, stop in zip(blocks, ends[:-1], ends[1:], strict=True):
        one.runs = runs[start:stop].tobytes()
