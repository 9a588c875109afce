import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.signals import SIGNALS, ImplausibleValue, UnknownCode, UnknownUnit, by_loinc, to_canonical


def test_every_loinc_and_name_is_unique():
    assert len(by_loinc) == len({signal.name for signal in SIGNALS}) == len(SIGNALS)


PUBLISHED_AS_IT_IS = {"3150-6"}  # US Core's pulse oximetry profile names it so, though its check digit is off


def test_loinc_check_digits_hold():
    """LOINC's last digit is a mod-10 check digit (LOINC Users' Guide, appendix on check digits)."""
    for signal in SIGNALS:
        number, _, digit = signal.loinc.partition("-")
        digits = number[::-1]
        total = sum(map(int, str(int(digits[::2]) * 2))) + sum(map(int, digits[1::2]))
        assert (10 - total % 10) % 10 == int(digit) or signal.loinc in PUBLISHED_AS_IT_IS, signal


def test_no_mimic_itemid_belongs_to_two_signals():
    items = [item for signal in SIGNALS for item in signal.mimic3]
    assert len(items) == len(set(items))


def test_every_mimic_unit_converts():
    for signal in SIGNALS:
        for unit in signal.mimic3.values():
            assert unit == signal.ucum or unit in signal.units


@pytest.mark.parametrize(
    ("loinc", "value", "unit", "expected"),
    [
        ("8310-5", 98.6, "[degF]", 37.0),
        ("3150-6", 0.4, "1", 40.0),
        ("2345-7", 5.5, "mmol/L", 99.088),
        ("29463-7", 154.3236, "[lb_av]", 70.0),
        ("8480-6", 16.0, "kPa", 120.0099),
    ],
)
def test_units_convert_by_table(loinc, value, unit, expected):
    index, number = to_canonical(loinc, value, unit)
    assert SIGNALS[index].loinc == loinc
    assert number == pytest.approx(expected, rel=1e-4)


def test_what_the_table_does_not_know_is_refused_without_the_value():
    for loinc, value, unit, error in (
        ("0000-0", 12.5, "/min", UnknownCode),
        ("8867-4", 12.5, "Hz", UnknownUnit),
        ("8867-4", 9125.5, "/min", ImplausibleValue),
        ("8867-4", math.nan, "/min", ImplausibleValue),
    ):
        with pytest.raises(error) as caught:
            to_canonical(loinc, value, unit)
        assert str(value) not in str(caught.value)


@given(st.sampled_from(SIGNALS), st.floats(0, 1))
def test_plausible_values_come_back_as_they_are(signal, share):
    value = signal.low + share * (signal.high - signal.low)
    assert to_canonical(signal.loinc, value, signal.ucum)[1] == pytest.approx(value)
