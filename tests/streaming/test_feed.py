"""What the board's feed says of itself."""

import asyncio
from types import SimpleNamespace

from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from streaming.board import feed
from streaming.board.ward import Ward

RISK = TopicPartition("risk", 0)
BACKLOG = 3


class Consumer:
    """A backlog that is read a record at a time, whenever `goes_on` says so, on a broker that may be `away`."""

    def __init__(self):
        self.at, self.away = 0, False
        self.goes_on = asyncio.Event()

    async def getmany(self, **_):
        await asyncio.sleep(0)
        if self.at == BACKLOG:
            return {}
        await self.goes_on.wait()
        self.goes_on.clear()
        self.at += 1
        return {RISK: [SimpleNamespace(key=b"p1", value=b"{}", timestamp=0)]}

    async def position(self, _):
        return self.at

    async def end_offsets(self, _):
        if self.away:
            raise KafkaConnectionError
        return {RISK: BACKLOG}

    async def stop(self):
        pass


async def _reaches(found, state):
    async with asyncio.timeout(10):
        while found.state != state:
            await asyncio.sleep(0.001)


async def _through(monkeypatch):
    monkeypatch.setattr(feed, "ASK_EVERY_S", 0.01)
    found = feed.Feed("127.0.0.1:1", "", Ward(), 1.0)
    found._consumer = consumer = Consumer()
    found._tasks = [asyncio.create_task(found._read({RISK: BACKLOG})), asyncio.create_task(found._watch(RISK))]
    try:
        assert found.state == "catching-up"
        consumer.away = True
        await _reaches(found, "away")
        consumer.away = False
        await _reaches(found, "catching-up")
        for _ in range(BACKLOG):
            assert found.state == "catching-up"
            consumer.goes_on.set()
            while consumer.goes_on.is_set():
                await asyncio.sleep(0)
        await _reaches(found, "live")
        consumer.away = True
        await _reaches(found, "away")
        consumer.away = False
        await _reaches(found, "live")
    finally:
        await found.stop()


class Busy(Consumer):
    """A ward where every fetch brings something."""

    async def getmany(self, **_):
        await asyncio.sleep(0)
        self.at += 1
        return {RISK: [SimpleNamespace(key=b"p1", value=b"{}", timestamp=0)]}


async def _busy(ward):
    found = feed.Feed("127.0.0.1:1", "", ward, 1.0)
    found._consumer = Busy()
    found._tasks = [asyncio.create_task(found._read({RISK: BACKLOG}))]
    try:
        await _reaches(found, "live")
    finally:
        await found.stop()


def test_a_busy_ward_is_live_once_the_backlog_is_read():
    asyncio.run(_busy(Ward()))


def test_patients_of_the_past_are_gone_when_the_board_says_that_it_is_live():
    ward = Ward()
    ward.take_risk(b"left long ago", b"{}", 0)
    asyncio.run(_busy(ward))
    assert ward.since(0)["gone"][-1] == "left long ago"


def test_a_broker_that_was_away_during_the_catching_up_does_not_end_it(monkeypatch):
    asyncio.run(_through(monkeypatch))
