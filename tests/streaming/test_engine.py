"""What the engine asks of whoever feeds it."""

import asyncio
from types import SimpleNamespace

from streaming.engine import BATCH_RECORDS, FETCHED_AHEAD, Engine
from streaming.pipeline import Batch


class _Slow:
    """Work that ends when it is told to."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.sizes: list[list[int]] = []
        self.kinds: list[list[str]] = []
        self.ahead = {"notes": self._encode}
        self.encoded: list[int] = []
        self.encoder_free = asyncio.Event()

    async def _encode(self, batch):
        self.encoded.append(len(batch.records))
        await self.encoder_free.wait()

    async def take_over(self, committed):
        return {}

    async def process(self, batches):
        self.sizes.append([len(batch.records) for batch in batches])
        self.kinds.append([batch.kind for batch in batches])
        self.begun.set()
        await self.go_on.wait()
        return SimpleNamespace(counts={}, stage_ms={})

    async def store(self, outcome):
        pass

    def publish(self, outcome):
        confirmed = asyncio.get_running_loop().create_future()
        confirmed.set_result(0.0)
        return confirmed

    async def forget(self, outcomes):
        pass


class _Deaf:
    def batch_done(self, records, outcome):
        pass

    def paused(self, what):
        pass

    def waiting(self, batches):
        pass


def _batch(records, kind="vitals"):
    return Batch(kind, 0, [SimpleNamespace(key=b"", value=b"", headers=())] * records, 0.0)


def _with_engine(play):
    async def run():
        work, told, errors = _Slow(), [], []
        engine = Engine(work, _Deaf(), errors.append, lambda: told.append(engine.hungry()))
        engine.start()
        try:
            async with asyncio.timeout(10):
                await play(engine, work, told)
        finally:
            await engine.stop()
        assert errors == []

    asyncio.run(run())


def test_nothing_is_fetched_while_a_batch_is_computed_and_at_once_when_it_is_done():
    async def play(engine, work, told):
        assert engine.hungry()
        await engine.submit(_batch(1), lambda: None)
        assert not engine.hungry(), "what has arrived comes first"
        await work.begun.wait()
        assert not engine.hungry() and told == []
        assert engine.waiting == 1, "a long computation is no stuck consumer"
        work.go_on.set()
        while not told:
            await asyncio.sleep(0)
        assert told == [True]

    _with_engine(play)


def test_all_that_a_fetch_brought_is_one_batch():
    async def play(engine, work, told):
        for records in (1, 2, 3):
            await engine.submit(_batch(records), lambda: None)
        await work.begun.wait()
        assert work.sizes == [[1, 2, 3]]

    _with_engine(play)


def test_with_more_than_a_batch_takes_fetching_goes_on_beside_computing_up_to_a_limit():
    async def play(engine, work, told):
        await engine.submit(_batch(BATCH_RECORDS), lambda: None)
        await work.begun.wait()
        assert told == [True]
        for _ in range(FETCHED_AHEAD):
            assert engine.hungry()
            await engine.submit(_batch(1), lambda: None)
        assert not engine.hungry()

    _with_engine(play)


def test_what_waited_is_dropped_when_partitions_are_taken_over_and_more_is_fetched():
    async def play(engine, work, told):
        await engine.submit(_batch(BATCH_RECORDS), lambda: None)
        await engine.submit(_batch(BATCH_RECORDS), lambda: None)
        await work.begun.wait()
        taking_over = asyncio.create_task(engine.take_over({}))
        work.go_on.set()
        await taking_over
        assert engine.hungry() and told[-1] and work.sizes == [[BATCH_RECORDS]]

    _with_engine(play)


def test_notes_that_are_encoded_hold_nobody_up_and_keep_their_order():
    async def play(engine, work, told):
        work.go_on.set()
        for records in (1, 2):
            await engine.submit(_batch(records, "notes"), lambda: None)
        await engine.submit(_batch(3), lambda: None)
        await work.begun.wait()
        while not engine.hungry():
            await asyncio.sleep(0)
        assert work.kinds == [["vitals"]] and work.encoded == [1]
        assert engine.waiting >= 2, "what is encoded is no idle consumer"
        work.encoder_free.set()
        while engine.waiting:
            await asyncio.sleep(0.001)
        assert work.encoded == [1, 2]
        assert [size for sizes in work.sizes for size in sizes] == [3, 1, 2]

    _with_engine(play)


def test_notes_that_were_encoded_when_partitions_were_taken_over_are_dropped():
    async def play(engine, work, told):
        work.go_on.set()
        for records in (1, 2):
            await engine.submit(_batch(records, "notes"), lambda: None)
        while not work.encoded:
            await asyncio.sleep(0)
        await engine.take_over({})
        assert engine.waiting == 0
        await engine.submit(_batch(3, "notes"), lambda: None)
        work.encoder_free.set()
        while engine.waiting:
            await asyncio.sleep(0.001)
        assert work.sizes == [[3]]

    _with_engine(play)


def test_with_many_batches_of_notes_to_encode_no_more_is_fetched():
    async def play(engine, work, told):
        for _ in range(FETCHED_AHEAD):
            assert engine.hungry()
            await engine.submit(_batch(1, "notes"), lambda: None)
        assert not engine.hungry()

    _with_engine(play)
