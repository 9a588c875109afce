import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.signals import SIGNALS, by_name
from models.window import BIN_MS, BINS, FIGURES, HORIZONS_H, HOUR_MS, WINDOW_FIELDS, F, V, build_window, stack

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
    values, mask = np.zeros((BINS, V), np.float32), np.zeros((BINS, V), np.float32)
    last, seen = np.zeros(V, np.float32), np.zeros(V, np.float32)
    for t, s, v in zip(time_ms, signal, value, strict=True):
        static = SIGNALS[s].kind == "static"
        if t > ANCHOR and not static:
            continue
        last[s], seen[s] = v, 1
        step = BINS - 1 - (ANCHOR - t) // BIN_MS
        if not static and step >= 0:
            values[step, s], mask[step, s] = v, 1
    np.testing.assert_array_equal(window.bins, np.concatenate([values, mask], 1))
    np.testing.assert_array_equal(window.last, last)
    np.testing.assert_array_equal(window.last_mask, seen)


@given(_observations)
def test_the_window_never_sees_the_future(rows):
    past = [row for row in rows if row[0] <= 0 or SIGNALS[row[1]].kind == "static"]
    with_future, without = build_window(*_arrays(rows), ANCHOR), build_window(*_arrays(past), ANCHOR)
    for name in WINDOW_FIELDS:
        np.testing.assert_array_equal(getattr(with_future, name), getattr(without, name))


def test_the_anchor_itself_is_in_the_last_step():
    window = build_window(np.array([ANCHOR]), np.array([0]), np.array([80], np.float32), ANCHOR)
    assert window.bins[-1, 0] == 80 and window.bins[-1, V] == 1
    assert window.last_age_h[0] == 0


@given(_observations)
def test_figures_equal_a_slow_reading_of_their_definition(rows):
    time_ms, signal, value = _arrays(rows)
    figures = build_window(time_ms, signal, value, ANCHOR).figures
    expected = np.zeros((F, V))
    for at in range(V):
        if SIGNALS[at].kind == "static":
            continue
        for hours in HORIZONS_H:
            inside = (signal == at) & (time_ms <= ANCHOR) & (ANCHOR - time_ms < hours * HOUR_MS)
            found = value[inside].astype(np.float64)
            if len(found):
                told = {"count": len(found), "mean": found.mean(), "min": found.min(), "max": found.max()}
                told |= {"std": found.std(), "first": found[0]}
                for name, number in told.items():
                    if f"{name}_{hours}h" in FIGURES:
                        expected[FIGURES.index(f"{name}_{hours}h"), at] = number
    np.testing.assert_allclose(figures, expected, rtol=1e-4, atol=2e-3)


def test_of_static_facts_only_the_units_has_an_age():
    unit, age = by_name["unit"], by_name["age"]
    time_ms = np.array([ANCHOR - 60 * HOUR_MS] * 2 + [ANCHOR])
    window = build_window(time_ms, np.array([unit, age, 0]), np.array([1027, 70, 80], np.float32), ANCHOR)
    assert window.last_age_h[unit] == 60
    assert window.last_age_h[age] == 0


def test_one_window_stacks_as_many_do():
    window = build_window(np.array([ANCHOR]), np.array([0]), np.array([80], np.float32), ANCHOR)
    one, two = stack([window]), stack([window, window])
    for name in WINDOW_FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name)[:1])
