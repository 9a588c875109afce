"""The store's contract on a real Valkey: fence, atomicity, repeats, lost writes."""

import asyncio
import uuid

import pytest

from streaming.errors import Fatal, Fenced, Unavailable
from streaming.partition import PartitionWrite
from streaming.store import Store

pytestmark = pytest.mark.integration


@pytest.fixture
def run(stack):
    def runner(scenario):
        async def main():
            store = Store(stack.redis_url, uuid.uuid4().hex)
            try:
                await scenario(store)
            finally:
                await store.close()

        asyncio.run(main())

    return runner


def _write(token, number, offset, **more):
    return PartitionWrite(3, token, number, offsets={"vitals": offset}, counters={"applied": 1}, **more)


def test_what_is_written_comes_back_whole(run):
    async def scenario(store):
        meta = await store.take_over(3)
        assert (meta.offsets, meta.outbox) == ({}, [])
        await store.write(
            [_write(meta.token, 1, 5, outbox=[("a", b"\0x"), ("b", b"y")], patients={"p": (7, {"f": b"\xff"})})]
        )
        again = await store.take_over(3)
        assert again.token > meta.token
        assert again.offsets == {"vitals": 5}
        assert again.outbox == [("a", b"\0x"), ("b", b"y")]
        assert await store.load(3, ["p", "q"]) == [{b"f": b"\xff"}, {}]
        await store.clear_outbox({3: ["a"]})
        assert (await store.take_over(3)).outbox == [("b", b"y")]

    run(scenario)


def test_an_owner_whose_fence_was_passed_writes_nothing(run):
    async def scenario(store):
        old = await store.take_over(3)
        new = await store.take_over(3)
        with pytest.raises(Fenced):
            await store.write([_write(old.token, 1, 5, patients={"p": (7, {"f": b"1"})})])
        assert await store.load(3, ["p"]) == [{}]
        await store.write([_write(new.token, 1, 6)])

    run(scenario)


def test_a_repeat_after_a_lost_reply_changes_nothing(run):
    async def scenario(store):
        meta = await store.take_over(3)
        write = _write(meta.token, 1, 5, outbox=[("a", b"x")])
        await store.write([write])
        await store.clear_outbox({3: ["a"]})
        await store.write([write])
        assert (await store.take_over(3)).outbox == []
        counted = await store._redis.hget(store.key(3, "meta"), "applied")
        assert counted == b"1"

    run(scenario)


def test_who_was_not_written_since_is_found_and_taken_out_whole(run):
    async def scenario(store):
        meta = await store.take_over(3)
        await store.write([_write(meta.token, 1, 5, patients={name: (7, {"f": b"1"}) for name in "abc"}, at_ms=100)])
        await store.write([_write(meta.token, 2, 6, patients={"b": (8, {"f": b"2"})}, at_ms=200)])
        assert await store.untouched(3, 99, 9) == []
        assert await store.untouched(3, 100, 9) == ["a", "c"]
        assert await store.untouched(3, 200, 2) == ["a", "c"]
        renewed = {"b": (9, {"f": b"3"}), "c": (9, {"g": b"4"})}
        await store.write([_write(meta.token, 3, 7, patients=renewed, forgotten=["a", "c"], at_ms=300)])
        assert await store.load(3, list("abc")) == [{}, {b"f": b"3"}, {b"g": b"4"}]
        assert await store.silent_patients(3, 0, 99) == await store.untouched(3, 999, 9) == ["b", "c"]
        assert (await store.take_over(3)).offsets == {"vitals": 7}

    run(scenario)


@pytest.mark.parametrize(
    ("spoil", "mend"),
    [
        (("CONFIG", "SET", "maxmemory", "1mb"), ("CONFIG", "SET", "maxmemory", "0")),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    ],
)
def test_a_redis_that_takes_no_work_now_is_away_and_then_goes_on(run, spoil, mend):
    async def scenario(store):
        meta = await store.take_over(3)
        await store._redis.execute_command(*spoil)
        try:
            with pytest.raises(Unavailable, match="takes no work now"):
                await store.write([_write(meta.token, 1, 5)])
            with pytest.raises(Unavailable, match="takes no work now"):
                await store.take_over(4)
        finally:
            await store._redis.execute_command(*mend)
        await store.write([_write(meta.token, 1, 5)])
        assert (await store.take_over(3)).offsets == {"vitals": 5}

    run(scenario)


def test_of_several_partitions_only_the_lost_one_is_refused(run):
    async def scenario(store):
        metas = {partition: await store.take_over(partition) for partition in (3, 4)}
        await store.take_over(4)
        writes = [PartitionWrite(partition, metas[partition].token, 1, {"vitals": 5}) for partition in (4, 3)]
        with pytest.raises(Fenced):
            await store.write(writes)
        assert [(await store.take_over(partition)).offsets for partition in (3, 4)] == [{"vitals": 5}, {}]

    run(scenario)


def test_a_redis_that_forgot_the_script_is_given_it_again(run):
    async def scenario(store):
        meta = await store.take_over(3)
        await store._redis.script_flush()
        await store.write([_write(meta.token, 1, 5)])
        assert (await store.take_over(3)).offsets == {"vitals": 5}

    run(scenario)


@pytest.mark.parametrize("offsets", [{"vitals": 6}, {"notes": 1}, {}])
def test_a_write_that_redis_lost_is_noticed_by_the_next_whatever_it_is_of(run, offsets):
    async def scenario(store):
        meta = await store.take_over(3)
        await store.write([_write(meta.token, 1, 4)])
        held = await store._redis.hgetall(store.key(3, "meta"))
        await store.write([_write(meta.token, 2, 5)])
        await store._redis.hset(store.key(3, "meta"), mapping=held)  # as after a restart without the last second
        with pytest.raises(Fatal):
            await store.write([PartitionWrite(3, meta.token, 3, offsets)])
        assert (await store.take_over(3)).offsets == {"vitals": 4}

    run(scenario)


def test_the_next_owner_goes_on_counting(run):
    async def scenario(store):
        meta = await store.take_over(3)
        await store.write([_write(meta.token, 1, 4), _write(meta.token, 2, 5)])
        again = await store.take_over(3)
        assert again.writes == 2
        await store.write([_write(again.token, 3, 6)])

    run(scenario)


def test_a_write_whose_connection_breaks_is_repeated_on_a_new_one(run):
    async def scenario(store):
        meta = await store.take_over(3)
        await store.write([_write(meta.token, 1, 5)])
        for client in await store._redis.client_list():
            if int(client["id"]) != await store._redis.client_id():
                await store._redis.client_kill_filter(_id=client["id"])
        with pytest.raises(Unavailable):
            await store.write([_write(meta.token, 2, 6)])
        await store.write([_write(meta.token, 2, 6)])
        assert (await store.take_over(3)).offsets == {"vitals": 6}

    run(scenario)


def test_a_write_that_redis_does_not_answer_in_time_leaves_no_answer_behind_for_the_next(run):
    async def scenario(store):
        meta = await store.take_over(3)
        await store.write([_write(meta.token, 1, 5)])
        store._timeout_s = 0.2
        await store._redis.client_pause(1000, all=True)
        with pytest.raises(Unavailable):
            await store.write([_write(meta.token, 2, 6)])
        store._timeout_s = 5.0
        await store.write([_write(meta.token, 2, 6), _write(meta.token, 3, 7)])
        assert (await store.take_over(3)).offsets == {"vitals": 7}

    run(scenario)


def test_a_redis_that_is_away_is_unavailable():
    async def scenario():
        store = Store("redis://127.0.0.1:1/0", "x", timeout_s=1)
        with pytest.raises(Unavailable):
            await store.take_over(0)
        with pytest.raises(Unavailable):
            await store.write([_write(1, 1, 5)])
        await store.close()

    asyncio.run(scenario())
