"""Reading back from the real broker: ranges whose beginning is gone, topics that hold nothing, what was published since."""

import asyncio

import pytest

from streaming.bootstrap import partitioner
from streaming.past import Past
from tests.helpers import HEART_RATE, MINUTE, NOON, observation
from tests.integration.conftest import eventually
from tests.integration.test_retention import _delete

pytestmark = pytest.mark.integration
PARTITION = partitioner(8)(b"p1")


def _sent(site, count):
    for minute in range(count):
        at_ms = NOON + minute * MINUTE
        body = {"observations": [observation(HEART_RATE, 80 + minute, "/min", at_ms)]}
        site.send("vitals", body, at_ms=at_ms, id=str(minute))
    return Past(site.stack.bootstrap, site.prefix)


def _offsets(past, ranges):
    async def read():
        found = {}
        async for kind, records in past.records(PARTITION, ranges):
            found.setdefault(kind, []).extend(record.offset for record in records)
        return found

    return asyncio.run(read())


def test_a_range_is_read_whole_as_far_as_it_is_left(site):
    past = _sent(site, 6)
    assert _offsets(past, {"vitals": (2, 5), "notes": (0, 3)}) == {"vitals": [2, 3, 4]}
    _delete(site, "vitals", PARTITION, 3)
    assert _offsets(past, {"vitals": (0, 9)}) == {"vitals": [3, 4, 5]}
    _delete(site, "vitals", PARTITION, 6)
    assert _offsets(past, {"vitals": (0, 6)}) == {}


def test_what_was_published_is_told_whatever_is_left_of_what_it_rests_on(site):
    site.start("fusion", WARDWATCH_SCORE="each")
    past = _sent(site, 4)
    eventually(lambda: len(site.read("risk")) == 4, "four scores")

    def told(below, stored):
        return asyncio.run(past.told(PARTITION, below, stored))

    assert told({"vitals": 4}, {})["p1"].offsets == {"vitals": 3}
    assert told({"vitals": 3}, {"vitals": 1})["p1"].offsets == {"vitals": 2}
    assert told({}, {"vitals": 3}) == {}
    _delete(site, "vitals", PARTITION, 4)
    assert told({"vitals": 4}, {"vitals": 3, "notes": 7})["p1"].offsets == {"vitals": 3}
