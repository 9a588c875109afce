from datetime import timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from models.signals import SIGNALS, by_name
from streaming.clock import from_ms
from streaming.errors import ConfigError, InvalidMessage
from streaming.gateways.patients import STAY_TYPES, Identifier, choose, patient_key
from streaming.gateways.times import instant, offset_of, zone_of
from streaming.gateways.units import SPELLINGS, to_ucum

BERLIN = ZoneInfo("Europe/Berlin")


def _reason(call):
    with pytest.raises(InvalidMessage) as caught:
        call()
    return caught.value.reason


@pytest.mark.parametrize(
    ("identifier", "key"),
    [
        (Identifier(" 123 "), "123"),
        (Identifier("123", "HOSPITAL"), "123"),
        (Identifier("123", "OTHER"), "123@OTHER"),
        (Identifier("1@2", "A%B"), "1%402@A%25B"),
        (Identifier("123@OTHER"), "123%40OTHER"),
    ],
)
def test_a_key_names_the_authority_unless_it_is_the_sites_own(identifier, key):
    assert patient_key(identifier, "HOSPITAL") == key


def test_no_identifier_is_no_patient():
    assert _reason(lambda: patient_key(Identifier("  ", "X"), "")) == "missing-patient"
    assert _reason(lambda: choose([Identifier("", "X")], "")) == "missing-patient"


def test_of_several_identifiers_the_sites_own_then_the_record_number_counts():
    social, record, foreign = Identifier("S", "GOV", "SS"), Identifier("R", "H", "MR"), Identifier("F", "X", "MR")
    assert choose([social, record], "") == record
    assert choose([social, foreign, record], "H") == record
    assert choose([social], "H") == social
    assert _reason(lambda: choose([foreign, record], "")) == "missing-patient"
    assert _reason(lambda: choose([social, Identifier("L", "DMV", "DL")], "")) == "missing-patient"


@pytest.mark.parametrize("type", STAY_TYPES)
def test_account_and_visit_numbers_are_never_the_patient(type):
    stay, record = Identifier("9001", "H", type), Identifier("123", "X", "MR")
    assert choose([stay, record], "H") == record
    assert choose([stay, Identifier("5", "X")], "") == Identifier("5", "X")
    assert _reason(lambda: choose([stay], "H")) == "missing-patient"


@pytest.mark.parametrize(
    ("stamp", "hours"), [("20260102153000.5+0530", 5.5), ("2026-0400", -4), ("20260102153000", None), ("", None)]
)
def test_the_offset_of_a_stamp_is_read_however_exact_its_time(stamp, hours):
    assert offset_of(stamp, "x") == (None if hours is None else timezone(timedelta(hours=hours)))
    assert _reason(lambda: offset_of("20260102153000+9900", "x")) == "bad-time"


@pytest.mark.parametrize(
    ("stamp", "zone", "utc"),
    [
        ("202601021530", BERLIN, "2026-01-02T14:30:00.000Z"),
        ("20260702153001.5", BERLIN, "2026-07-02T13:30:01.500Z"),
        ("20260102153000.123456-0500", None, "2026-01-02T20:30:00.123Z"),
        ("20260102153000+0530", BERLIN, "2026-01-02T10:00:00.000Z"),
    ],
)
def test_a_stamp_is_read_with_its_offset_or_the_zone(stamp, zone, utc):
    assert from_ms(instant(stamp, zone, "x")) == utc


@pytest.mark.parametrize(
    ("stamp", "zone"),
    [
        ("", BERLIN),
        ("20260102", BERLIN),
        ("2026010215", BERLIN),
        ("20260230120000", BERLIN),
        ("20260102156100", BERLIN),
        ("20260102153000", None),
        ("20261025023000", BERLIN),  # twice
        ("20260329023000", BERLIN),  # never
        ("20260102153000+9900", None),
        ("00010101000000+0100", None),  # the year 0 in UTC
        ("00010101000000", BERLIN),
        ("99991231235959-0100", None),
        ("٢٠٢٦٠١٠٢١٥٣٠", BERLIN),
    ],
)
def test_a_time_that_would_have_to_be_guessed_is_refused(stamp, zone):
    assert _reason(lambda: instant(stamp, zone, "x")) == "bad-time"


def test_the_hour_that_is_twice_is_taken_with_an_offset():
    assert from_ms(instant("20261025023000+0100", BERLIN, "x")) == "2026-10-25T01:30:00.000Z"


def test_an_unknown_zone_is_a_wrong_setting():
    assert zone_of("") is None
    for name in ("Mars/Base", "../etc/passwd", "/etc/localtime"):
        with pytest.raises(ConfigError):
            zone_of(name)


def test_every_spelling_leads_to_a_unit_of_the_signal_table():
    known = {signal.ucum for signal in SIGNALS} | {unit for signal in SIGNALS for unit in signal.units}
    assert set(SPELLINGS.values()) <= known
    assert all(spelling == spelling.lower() for spelling in SPELLINGS)


def test_units_are_looked_up_whole_or_refused():
    assert to_ucum(["mm[Hg]"], "8480-6") == "mm[Hg]"
    assert to_ucum(["MMHG", "", "ISO+"], "8480-6") == "mm[Hg]"
    assert to_ucum(["", "bpm"], "8867-4") == "/min"
    assert to_ucum(["kPa", "", "UCUM"], "8480-6") == "kPa"
    assert to_ucum(["furlong"], "8480-6") == ""
    assert to_ucum([""], "8480-6") == ""


def test_only_pure_numbers_may_come_without_a_unit():
    without = {signal.name for signal in SIGNALS if to_ucum([""], signal.loinc)}
    assert without == {"gcs", "gcs_eye", "gcs_verbal", "gcs_motor", "ph"}
    assert by_name.keys() >= without
