"""Measurements are order-free, and what is derived of them on the way is what the whole gives."""

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from models.signals import SIGNALS
from streaming.blocks import BLOCK_MS, CORRECTED_RANK, RESOLUTION_MS, RETRACTED_RANK, Block, Write, blocks_of
from streaming.observations import STATIC, WINDOW_MS, Observations
from tests.helpers import HOUR, MINUTE, NOON

_TIMED = [signal for signal in range(len(SIGNALS)) if signal not in STATIC][:2]
_WRITES = st.builds(
    Write,
    signal=st.sampled_from([*_TIMED, *sorted(STATIC)[:2]]),
    time_ms=st.builds(
        lambda step, within: step * WINDOW_MS // 3 + within,
        st.integers(-1, 4),
        st.sampled_from([0, 1, RESOLUTION_MS - 1, RESOLUTION_MS, BLOCK_MS - 1]),
    ),
    value=st.sampled_from([-1.0, -0.0, 0.0, 1.0]),
    rank=st.sampled_from([0, 1, CORRECTED_RANK, RETRACTED_RANK]),
    recorded_ms=st.integers(0, 2),
    version=st.integers(0, 2),
)


def _one_by_one(start, writes):
    for write in writes:
        start = start.put(write)
    return start


@given(st.lists(_WRITES, max_size=8), st.lists(_WRITES, min_size=1, max_size=40))
def test_put_all_gives_what_put_of_each_gives(before, writes):
    start = _one_by_one(Observations(), before)
    expected = _one_by_one(start, writes)
    assert start.put_all(writes).pack() == expected.pack()
    assert expected.put_all(writes) is expected


@given(st.lists(_WRITES, max_size=20), st.randoms(), st.integers(0, 20))
def test_any_order_and_any_split_give_the_same(writes, random, at):
    whole = Observations().put_all(writes)
    random.shuffle(writes)
    assert _one_by_one(Observations(), writes).pack() == whole.pack()
    one, other = Observations().put_all(writes[:at]), Observations().put_all(writes[at:])
    joined = one.union([other])
    assert (joined.pack(), joined.tag(), joined.newest) == (whole.pack(), whole.tag(), whole.newest)
    assert joined.union([other]) is joined


@given(st.lists(_WRITES.filter(lambda write: write.signal not in STATIC), max_size=60))
def test_many_sorted_in_at_once_are_what_one_by_one_gives(writes):
    one_by_one = {}
    for write in writes:
        index = write.time_ms // BLOCK_MS
        one_by_one[index] = one_by_one.get(index, Block(index, b"")).put([write.pack()])
    at_once = {block.index: block.entries for block in blocks_of(b"".join(write.pack() for write in writes))}
    assert at_once == {index: block.entries for index, block in one_by_one.items()}
    for index, block in one_by_one.items():
        own = [write.pack() for write in writes if write.time_ms // BLOCK_MS == index]
        assert Block(index, b"").put(own).entries == block.entries
        assert block.put(own) is block


@given(st.lists(_WRITES, max_size=20))
def test_what_is_newest_follows_from_the_whole(writes):
    state = Observations()
    for write in writes:
        state = state.put(write)
        again = Observations.of(blocks_of(b"".join(block.entries for block in state.blocks)), state.static)
        assert (again.newest, again.pack(), again.count) == (state.newest, state.pack(), state.count)
        assert again.standing == state.standing


def _put(*told, signal=_TIMED[0], rank=0):
    writes = [Write(signal, time_ms, value, rank, time_ms, 1) for time_ms, value in told]
    return Observations().put_all(writes)


def test_of_one_minute_the_newest_counts():
    assert _put((NOON + 3, 1.0), (NOON + 59_000, 2.0), (NOON + 20_000, 3.0)).entries["value"].tolist() == [2.0]
    assert _put((NOON, 1.0), (NOON + MINUTE, 2.0)).entries["value"].tolist() == [1.0, 2.0]


def test_of_a_retracted_minute_nothing_counts_and_what_was_newest_before_does():
    state = _put((NOON - HOUR, 1.0), (NOON, 2.0), (NOON + 1, 3.0))
    state = state.put(Write(_TIMED[0], NOON + 1, 0.0, RETRACTED_RANK, NOON, 9))
    assert state.latest() == {_TIMED[0]: (NOON - HOUR, 1.0)}
    assert (state.count, state.newest_ms) == (1, NOON - HOUR)


def test_of_a_retraction_and_a_correction_the_later_recorded_counts_and_a_final_never():
    def left(*told):
        writes = [Write(_TIMED[0], NOON, value, rank, recorded_ms, 1) for value, rank, recorded_ms in told]
        found = {Observations().put_all(order).latest().get(_TIMED[0], (0, None))[1] for order in permutations(writes)}
        (value,) = found
        return value

    wrong, gone = (7.0, 1, 1), (0.0, RETRACTED_RANK, 2)
    assert left(wrong, gone) is None
    assert left(wrong, gone, (4.0, CORRECTED_RANK, 3)) == 4.0
    assert left(wrong, (4.0, CORRECTED_RANK, 1), gone) is None
    assert left(wrong, (4.0, CORRECTED_RANK, 2), gone) is None
    assert left(wrong, gone, (4.0, 1, 3)) is None


def test_a_day_at_1_hz_stays_small():
    seconds = [(NOON + second * 1_000, 80.0) for second in range(24 * 3_600)]
    assert len(_put(*seconds).entries) == 24 * 60


def test_an_event_changes_the_block_it_lies_in_and_no_other():
    before = _put(*((NOON + hour * HOUR, 80.0) for hour in range(48)))
    after = before.put(Write(_TIMED[0], NOON + 20 * HOUR + 3, 81.0, 0, NOON, 1))
    changed = [block.index for block in after.blocks if block not in set(before.blocks)]
    assert changed == [(NOON + 20 * HOUR) // BLOCK_MS]
