"""What a replay counts as applied and as refused, whichever answer comes first."""

from types import SimpleNamespace

import orjson

from streaming.clock import from_ms
from streaming.replay import Watch
from tests.helpers import NOON


def _sent(watch, offset):
    watch.sent(SimpleNamespace(kind="vitals", patient="p"), 0, offset, 0.0, "")


def _risk(watch, offset):
    body = {
        "patient": "p",
        "stage_ms": {},
        "times": {"decision": from_ms(NOON)},
        "scores": [],
        "offsets": {"vitals": offset},
    }
    watch.saw_risk(SimpleNamespace(value=orjson.dumps(body), timestamp=NOON, partition=0), 1.0)


def _letter(watch, offset):
    headers = {"ww_topic": "vitals", "ww_partition": "0", "ww_offset": str(offset), "ww_reason": "bad-json"}
    watch.saw_dead_letter(SimpleNamespace(headers=[(name, text.encode()) for name, text in headers.items()]))


def _counts(watch):
    return watch.applied, watch.dead_lettered, watch.outstanding


def test_a_refusal_that_is_seen_after_a_later_score_still_counts_as_a_refusal():
    watch = Watch()
    _sent(watch, 0)
    _sent(watch, 1)
    _risk(watch, 1)
    _letter(watch, 0)
    assert _counts(watch) == (1, 1, 0)


def test_a_refusal_that_is_seen_before_its_event_is_confirmed_counts_once():
    watch = Watch()
    _letter(watch, 0)
    _sent(watch, 0)
    assert _counts(watch) == (0, 1, 0)


def test_a_repeated_refusal_counts_once():
    watch = Watch()
    _sent(watch, 0)
    _letter(watch, 0)
    _letter(watch, 0)
    _sent(watch, 1)
    _risk(watch, 1)
    _letter(watch, 0)
    assert _counts(watch) == (1, 1, 0)
