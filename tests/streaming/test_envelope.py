import orjson
import pytest

from models.signals import SIGNALS
from streaming.envelope import Limits, ScanBytes, from_ms, headers_for, parse, parse_time
from streaming.errors import REASONS, InvalidMessage
from streaming.history import NEVER_MS
from tests.helpers import HOUR, NOON, observation


def _headers(**changes):
    headers = dict(headers_for("vitals", id="1", source="s", patient="p1", time_ms=NOON, recorded_ms=NOON))
    for name, value in changes.items():
        name = name.replace("_", "_", 1)
        if value is None:
            headers.pop(name)
        else:
            headers[name] = value
    return list(headers.items())


def _body(**changes):
    return orjson.dumps({"observations": [{**observation("8867-4", 80, "/min", NOON), **changes}]})


def _parse(value=None, key=b"p1", kind="vitals", limits=None, broker_ms=0, **headers):
    body = _body() if value is None else value
    return parse(kind, key, body, _headers(**headers), limits=limits or Limits(), broker_ms=broker_ms)


CASES = {
    "missing-patient": {"key": None},
    "key-mismatch": {"key": b"p2"},
    "missing-attribute": {"ce_id": None},
    "wrong-type": {"ce_type": b"something.else"},
    "bad-attribute": {"ce_time": b"yesterday"},
    "broken-json": {"value": b'{"observations": [{'},
    "bad-schema": {"value": b'{"observations": []}'},
    "unknown-code": {"value": _body(code="1234-4")},
    "unknown-unit": {"value": _body(unit="furlong")},
    "implausible-value": {"value": _body(value=9000)},
    "too-large": {"value": b" " * (1 << 20) + _body()},
    "future-time": {"value": _body(time=from_ms(NOON + HOUR))},
}


def test_a_good_event_is_taken():
    event = _parse()
    assert (event.patient, event.time_ms, event.data.items[0].value) == ("p1", NOON, 80.0)
    assert SIGNALS[event.data.items[0].signal].name == "heart_rate"


@pytest.mark.parametrize("reason", CASES)
def test_bad_input_has_one_reason(reason):
    with pytest.raises(InvalidMessage) as caught:
        _parse(**CASES[reason])
    assert caught.value.reason == reason
    assert reason in REASONS


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_what_is_no_number_is_refused(number):
    with pytest.raises(InvalidMessage) as caught:
        _parse(value=_body(value=1.5).replace(b"1.5", number))
    assert caught.value.reason in {"broken-json", "bad-schema"}


def test_no_refusal_quotes_the_event():
    secret = "Ms Miller, 81, HIV"
    for value in (
        orjson.dumps({secret: 1}),
        orjson.dumps({"observations": [{"code": secret}]}),
        _body(unit=secret),
        secret.encode(),
    ):
        with pytest.raises(InvalidMessage) as caught:
            _parse(value=value)
        assert "Miller" not in str(caught.value)


@pytest.mark.parametrize("documents", ["notes", "scans"])
def test_no_refusal_of_a_history_quotes_an_id(documents):
    history = {"kind": "history-joined", "encounter": None, "encounter_version": [0, 0, 0], "newest_event_ms": 0,
               "newest_recorded_ms": 0, "observations": "AAA=", "notes": {}, "scans": {}, documents: {"Miller": [1]}}  # fmt: skip
    headers = headers_for("forwarded", id="1", source="s", patient="p1", time_ms=NOON)
    with pytest.raises(InvalidMessage, match=rf"bad-schema: .* at history-joined\.{documents}\.\d$"):
        parse("forwarded", b"p1", orjson.dumps(history), headers)


def test_the_future_is_reckoned_from_the_brokers_time_in_service():
    limits = Limits(live=True)
    _parse(limits=limits, broker_ms=NOON, ce_time=from_ms(NOON + 200_000).encode())
    with pytest.raises(InvalidMessage):
        _parse(limits=limits, broker_ms=NOON, ce_recordedtime=from_ms(NOON + HOUR).encode())
    _parse(limits=limits, broker_ms=NOON + HOUR, ce_recordedtime=from_ms(NOON + HOUR).encode())


def test_a_time_without_offset_is_refused():
    with pytest.raises(InvalidMessage):
        parse_time("2100-01-01T12:00:00", "ce_time")


def test_times_survive_the_wire_to_the_millisecond():
    for ms in (0, NOON + 123, 7_258_118_399_999, -1, NEVER_MS):
        assert parse_time(from_ms(ms), "t") == ms


def test_a_scan_is_bare_bytes_or_a_claim_check():
    headers = headers_for("scans", id="1", source="s", patient="p1", time_ms=NOON)
    assert parse("scans", b"p1", b"DICM", headers).data == ScanBytes(b"DICM", None, None)
    claimed = headers_for(
        "scans", id="1", source="s", patient="p1", time_ms=NOON, dataref="blob:sha256/" + "a" * 64, sha256="a" * 64
    )
    assert parse("scans", b"p1", b"", claimed).data.dataref.startswith("blob:")
    with pytest.raises(InvalidMessage) as caught:
        parse("scans", b"p1", b"x" * 2000, headers, limits=Limits(inline_bytes=1024))
    assert caught.value.reason == "too-large"


def test_retracting_a_static_fact_is_refused():
    body = orjson.dumps({"kind": "observation-retracted", "code": "30525-0", "time": from_ms(NOON)})
    headers = headers_for("corrections", id="1", source="s", patient="p1", time_ms=NOON)
    with pytest.raises(InvalidMessage) as caught:
        parse("corrections", b"p1", body, headers)
    assert caught.value.reason == "bad-correction"
