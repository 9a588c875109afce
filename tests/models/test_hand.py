import torch

from models.hand import CHANGES, QUOTIENTS, HandFeatures, N
from models.knowledge import Knowledge
from models.signals import by_name
from models.window import ROWS, R, V

_HAND, _KNOWN = HandFeatures(), Knowledge()


def _answer(**figures):
    """[N] of one patient of whom only these are told: figure__signal=value, with `measured` and counts where it rests
    on them."""
    summary = torch.zeros(1, R, V)
    for name, value in figures.items():
        figure, signal = name.split("__")
        summary[0, ROWS.index(figure), by_name[signal]] = value
        summary[0, 0, by_name[signal]] = 1
    return _HAND(summary, _KNOWN(summary))[0]


def _quotient(place, **figures):
    return float(_answer(**figures)[(R + len(CHANGES)) * V + place])


def _missing(value):
    return value != value


def test_the_summary_comes_first_and_what_is_not_known_is_nan():
    told = _answer(last__heart_rate=90.0, age__heart_rate=2.0)
    assert told.shape == (N,)
    table = told[: R * V].view(R, V)
    assert table[ROWS.index("last"), by_name["heart_rate"]] == 90
    assert (~table.isnan()).sum() == 3  # measured, last, age


def test_a_deviation_is_known_of_two_measurements():
    at = ROWS.index("std_48h") * V + by_name["heart_rate"]
    assert _missing(_answer(count_48h__heart_rate=1.0, std_48h__heart_rate=0.0)[at])
    assert _answer(count_48h__heart_rate=2.0, std_48h__heart_rate=3.0)[at] == 3


def test_a_change_is_the_later_less_the_earlier():
    at = (R + CHANGES.index(("last", "first_48h"))) * V + by_name["heart_rate"]
    told = {"last__heart_rate": 90.0, "first_48h__heart_rate": 70.0}
    assert _answer(**told, count_48h__heart_rate=2.0)[at] == 20
    assert _missing(_answer(**told)[at])


def test_a_quotient_is_known_where_both_its_figures_are():
    shock = QUOTIENTS.index((("last", "heart_rate"), "measured", ("last", "systolic")))
    assert abs(_quotient(shock, last__heart_rate=90.0, last__systolic=60.0) - 1.5) < 1e-4
    assert _missing(_quotient(shock, last__heart_rate=90.0))
    assert _missing(_quotient(shock, last__systolic=60.0))


def test_nothing_is_divided_by_zero():
    shock = QUOTIENTS.index((("last", "heart_rate"), "measured", ("last", "systolic")))
    assert torch.isfinite(torch.tensor(_quotient(shock, last__heart_rate=90.0, last__systolic=0.0)))


def test_urine_is_summed_and_told_per_kilogram():
    measured = {"mean_24h__urine": 50.0, "count_24h__urine": 12.0}
    passed = QUOTIENTS.index((("mean_24h", "urine"), "count_24h", ("measured", "urine")))
    weighed = QUOTIENTS.index((("mean_24h", "urine"), "count_24h", ("last", "weight")))
    assert abs(_quotient(passed, **measured) - 600) < 1
    assert abs(_quotient(weighed, **measured, last__weight=80.0) - 7.5) < 1e-3
    assert _missing(_quotient(weighed, **measured))
