"""A long history told by runs is what it is measurement by measurement."""

import numpy as np
import pytest

from models.signals import SIGNALS
from models.window import BIN_MS, ROWS, WINDOW_FIELDS, build_windows
from streaming.blocks import BLOCK_MS, ENTRY, RETRACTED_RANK, SIGNAL_BITS, Write
from streaming.observations import STATIC, Observations, windows
from streaming.runs import LONG, runs_of, uncut
from tests.helpers import HOUR, MINUTE, NOON

_TIMED = [signal for signal in range(len(SIGNALS)) if signal not in STATIC]
_START = NOON // BIN_MS * BIN_MS  # an edge of blocks


def _long(seed, shift_ms=0, hours=60, share=0.6):
    """Nearly every minute some of six signals, one in ten retracted."""
    rng = np.random.default_rng(seed)
    writes = [
        Write(signal, _START + shift_ms + minute * MINUTE, float(rng.normal(80, 9)), rank, NOON, minute)
        for minute in range(hours * 60)
        for signal in _TIMED[:6]
        for rank in ([RETRACTED_RANK] if rng.random() < 0.1 else [0])
        if rng.random() < share
    ]
    static = Write(min(STATIC), _START, 70.0, 0, NOON, 1)
    return Observations().put_all([*writes, static])


def _by_measurement(one):
    """The window without runs."""
    entries = np.concatenate([np.frombuffer(one.static, ENTRY), one.entries])
    entries = entries[entries["rank"] != RETRACTED_RANK]
    key, anchor = entries["key"], np.array([one.newest_ms])
    seen = (key >> SIGNAL_BITS > anchor - 48 * HOUR) | np.isin(key & 0xFF, list(STATIC))
    row = np.zeros(int(seen.sum()), np.int64)
    return build_windows(key[seen] >> SIGNAL_BITS, key[seen] & 0xFF, entries["value"][seen], row, anchor)


@pytest.mark.parametrize("shift_ms", [0, -1, 1, 7 * MINUTE + 13, BLOCK_MS - MINUTE])
def test_told_by_runs_or_by_measurements_a_history_is_the_same(shift_ms):
    one = _long(1, shift_ms)
    assert one.standing > LONG and len(uncut(one.blocks, one.newest_ms)) > 100
    told, expected = windows([one]), _by_measurement(one)
    np.testing.assert_array_equal(told.bins, expected.bins)
    np.testing.assert_allclose(told.summary, expected.summary, rtol=1e-5)
    exact = [place for place, name in enumerate(ROWS) if not name.startswith(("mean", "std"))]  # those are sums
    np.testing.assert_array_equal(told.summary[:, exact], expected.summary[:, exact])


def test_in_a_batch_each_is_what_it_is_alone():
    some = [
        _long(2),
        _long(3, hours=1),
        _long(4, HOUR + 1),
        Observations().put(Write(_TIMED[0], NOON, 80.0, 0, NOON, 1)),
    ]
    together = windows(some)
    for row, one in enumerate(some):
        for name in WINDOW_FIELDS:
            np.testing.assert_array_equal(getattr(together, name)[row], getattr(windows([one]), name)[0])


def test_runs_are_the_same_whichever_blocks_they_were_summed_up_with():
    one, again = _long(5), _long(5)
    together = runs_of(one.blocks)
    assert together == b"".join([runs_of([block]) for block in again.blocks])


def test_a_block_of_retractions_only_has_no_runs():
    one = Observations().put(Write(_TIMED[0], NOON, 80.0, RETRACTED_RANK, NOON, 1))
    assert runs_of(one.blocks) == b""
