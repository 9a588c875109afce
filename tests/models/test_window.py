import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.signals import SIGNALS
from models.window import HOUR_MS, HOURS, V, build_window

ANCHOR = 1_000 * HOUR_MS
_observations = st.lists(
    st.tuples(st.integers(-60 * HOUR_MS, 5 * HOUR_MS), st.integers(0, V - 1), st.floats(0, 100, width=32)), max_size=60
)


def _arrays(rows):
    rows = sorted(rows, key=lambda row: row[0])
    return (
        np.array([ANCHOR + t for t, *_ in rows], np.int64),
        np.array([s for _, s, _ in rows], np.int64),
        np.array([v for *_, v in rows], np.float32),
    )


@given(_observations)
def test_window_equals_a_slow_reading_of_its_definition(rows):
    time_ms, signal, value = _arrays(rows)
    window = build_window(time_ms, signal, value, ANCHOR)
    values, mask = np.zeros((HOURS, V), np.float32), np.zeros((HOURS, V), np.float32)
    last, seen = np.zeros(V, np.float32), np.zeros(V, np.float32)
    for t, s, v in zip(time_ms, signal, value, strict=True):
        static = SIGNALS[s].kind == "static"
        if t > ANCHOR and not static:
            continue
        last[s], seen[s] = v, 1
        step = HOURS - 1 - (ANCHOR - t) // HOUR_MS
        if not static and step >= 0:
            values[step, s], mask[step, s] = v, 1
    np.testing.assert_array_equal(window.values, values)
    np.testing.assert_array_equal(window.mask, mask)
    np.testing.assert_array_equal(window.last, last)
    np.testing.assert_array_equal(window.last_mask, seen)


@given(_observations)
def test_the_window_never_sees_the_future(rows):
    past = [row for row in rows if row[0] <= 0 or SIGNALS[row[1]].kind == "static"]
    with_future, without = build_window(*_arrays(rows), ANCHOR), build_window(*_arrays(past), ANCHOR)
    for name in ("values", "mask", "last", "last_age_h", "last_mask"):
        np.testing.assert_array_equal(getattr(with_future, name), getattr(without, name))


def test_the_anchor_itself_is_in_the_last_step():
    window = build_window(np.array([ANCHOR]), np.array([0]), np.array([80], np.float32), ANCHOR)
    assert window.values[-1, 0] == 80
    assert window.last_age_h[0] == 0
