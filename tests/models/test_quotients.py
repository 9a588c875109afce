import torch

from models.quotients import QUOTIENTS, Quotients
from models.signals import by_name
from models.trees import PER_SIGNAL, P
from models.window import V

N = len(QUOTIENTS)


def _asked(**figures):
    """One row in which only these are known: figure__signal=value. Counts always are."""
    told, known = torch.zeros(1, P, V), torch.zeros(1, P, V)
    for row, name in enumerate(PER_SIGNAL):
        if name.startswith("count"):
            known[:, row] = 1
    for name, value in figures.items():
        figure, signal = name.split("__")
        told[0, PER_SIGNAL.index(figure), by_name[signal]] = value
        known[0, PER_SIGNAL.index(figure), by_name[signal]] = 1
    return told.flatten(1), known.flatten(1)


def _answer(place, **figures):
    told, known = Quotients(PER_SIGNAL)(*_asked(**figures))
    return float(told[0, P * V + place]), float(known[0, P * V + place])


def test_what_came_before_stays_where_it_was():
    told, known = _asked(last__heart_rate=90.0)
    more, known_more = Quotients(PER_SIGNAL)(told, known)
    assert more.shape == known_more.shape == (1, P * V + N)
    assert torch.equal(more[:, : P * V], told) and torch.equal(known_more[:, : P * V], known)


def test_a_quotient_is_known_where_both_its_figures_are():
    shock = QUOTIENTS.index((("last", "heart_rate"), None, ("last", "systolic")))
    assert _answer(shock, last__heart_rate=90.0, last__systolic=60.0) == (1.5, 1.0)
    assert _answer(shock, last__heart_rate=90.0)[1] == 0
    assert _answer(shock, last__systolic=60.0)[1] == 0


def test_nothing_is_divided_by_zero():
    shock = QUOTIENTS.index((("last", "heart_rate"), None, ("last", "systolic")))
    value, known = _answer(shock, last__heart_rate=90.0, last__systolic=0.0)
    assert known == 0 and torch.isfinite(torch.tensor(value))


def test_urine_is_summed_and_told_per_kilogram():
    measured = {"mean_24h__urine": 50.0, "count_24h__urine": 12.0}
    passed = QUOTIENTS.index((("mean_24h", "urine"), "count_24h", None))
    weighed = QUOTIENTS.index((("mean_24h", "urine"), "count_24h", ("last", "weight")))
    assert _answer(passed, **measured) == (600.0, 1.0)
    assert _answer(weighed, **measured, last__weight=80.0) == (7.5, 1.0)
    assert _answer(weighed, **measured)[1] == 0
