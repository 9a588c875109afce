"""Many writes at once give what they give one by one."""

from hypothesis import given
from hypothesis import strategies as st

from models.signals import SIGNALS
from streaming.observations import RETENTION_MS, RETRACTED_RANK, STATIC, Observations, Write

_TIMED = [signal for signal in range(len(SIGNALS)) if signal not in STATIC][:2]
_WRITES = st.builds(
    Write,
    signal=st.sampled_from([*_TIMED, *sorted(STATIC)[:2]]),
    time_ms=st.integers(0, 4).map(lambda step: step * RETENTION_MS // 3),
    value=st.integers(-2, 2).map(float),
    rank=st.sampled_from([0, 1, RETRACTED_RANK]),
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
