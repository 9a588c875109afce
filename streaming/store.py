"""Redis: one partition's states, offsets, outbox and fence. The only importer of redis.

Keys of partition P in namespace N share the hash tag `{ww:N:P}`, so that one Lua call is atomic on Redis Cluster too:
`:meta` (fence, number of writes, offsets, counters), `:outbox`, `:activity` (patients by newest record), `:touched` (by when
they were last written), `:patient:<key>` (one hash each).
Leaves what the fields mean to `codec.py`, the order of steps to `pipeline.py`.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files

import hiredis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from streaming.errors import Fatal, Fenced, Unavailable
from streaming.partition import PartitionMeta, PartitionWrite

_PASSING = re.compile(r"(?:^|caused error: )(MISCONF|BUSY|NOREPLICAS) ")
"""What Redis answers while it takes no work, of that what redis-py has no classes for; to a pipeline it says more before."""


class Store:
    """The state store. Every method raises `Unavailable` when Redis does not answer: pause and try again."""

    def __init__(self, url: str, namespace: str, timeout_s: float = 5.0) -> None:
        # No retries inside the client: a write whose reply was lost must be retried where it is known to be
        # idempotent (it is: same offsets, same bytes), and where the pause can be reported.
        never_again = Retry(ExponentialBackoff(cap=0.1, base=0.01), 0)
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            health_check_interval=30,
            retry=never_again,
        )
        # `write` has a connection of its own, without what redis-py does around a command: half the processor time.
        # It is closed by redis-py when it fails, and opened again by the next command. Its timeout is that of `write`.
        self._timeout_s = timeout_s
        self._writing: AbstractConnection = ConnectionPool.from_url(
            url, socket_timeout=None, socket_connect_timeout=timeout_s, retry=never_again
        ).make_connection()
        self._namespace = namespace
        self._script = files("streaming").joinpath("store.lua").read_bytes()
        self._sha = hashlib.sha1(self._script, usedforsecurity=False).hexdigest()

    def key(self, partition: int, name: str) -> str:
        return f"{{ww:{self._namespace}:{partition}}}:{name}"

    async def take_over(self, partition: int) -> PartitionMeta:
        """Raises the fence: from here on no other worker's write to this partition succeeds."""
        meta_key, outbox_key = self.key(partition, "meta"), self.key(partition, "outbox")
        async with self._answering():
            token = int(await self._redis.hincrby(meta_key, "fence", 1))
            meta = await self._redis.hgetall(meta_key)
            outbox = await self._redis.hgetall(outbox_key)
        offsets = {
            name.decode().removeprefix("offset:"): int(value)
            for name, value in meta.items()
            if name.startswith(b"offset:")
        }
        entries = sorted((name.decode(), value) for name, value in outbox.items())
        return PartitionMeta(token, offsets, entries, int(meta.get(b"writes", 0)))

    async def load(self, partition: int, patients: Sequence[str]) -> list[dict[bytes, bytes]]:
        """The stored fields of each patient; an empty dict for one never seen."""
        async with self._answering(), self._redis.pipeline(transaction=False) as pipe:
            for patient in patients:
                pipe.hgetall(self.key(partition, f"patient:{patient}"))
            return await pipe.execute()

    async def write(self, writes: Sequence[PartitionWrite]) -> None:
        """Step 3 of the guarantees: one Lua call a partition, each all or nothing, all in one exchange.

        Raises:
            Fenced: another worker has taken a partition over; nothing was written to it.
            Fatal: Redis lost writes since this worker took over; a restart rebuilds from Kafka.
        """
        calls = [self._call(write) for write in writes]
        async with self._answering():
            answers = await self._commit(calls)
            if any(isinstance(answer, NoScriptError) for answer in answers):  # a Redis that was started anew
                await self._redis.script_load(self._script)
                answers = await self._commit(calls)  # what was written before is not written again
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        if -1 in answers:
            raise Fatal("Redis no longer holds what this worker wrote; it lost data. Restarting rebuilds it")
        if 0 in answers:
            raise Fenced("another worker owns this partition; its writes stand, these were refused")

    async def _commit(self, calls: Sequence[Sequence[str | bytes | int]]) -> list[int | Exception]:
        packed = [hiredis.pack_command(("EVALSHA", self._sha, *call)) for call in calls]
        answers: list[int | Exception] = []
        async with asyncio.timeout(self._timeout_s):
            await self._writing.send_packed_command(packed, check_health=False)
            for _ in calls:
                try:
                    answers.append(await self._writing.read_response())
                except ResponseError as error:  # the answer to this call; the next call has its own
                    answers.append(error)
        return answers

    def _call(self, write: PartitionWrite) -> list[str | bytes | int]:
        """Number of keys, keys and arguments of `store.lua`."""
        keys = [self.key(write.partition, name) for name in ("meta", "outbox", "activity", "touched")]
        keys += [self.key(write.partition, f"patient:{patient}") for patient in (*write.patients, *write.forgotten)]
        args: list[str | bytes | int] = [len(keys), *keys, write.token, write.number, write.at_ms]
        args += _counted((f"offset:{topic}", offset) for topic, offset in write.offsets.items())
        args += _counted(write.counters.items())
        args += _counted(write.outbox)
        args += _counted((patient, "") for patient in write.forgotten)
        for patient, (newest_recorded_ms, fields) in write.patients.items():
            args += [patient, newest_recorded_ms, *_counted(fields.items())]
        return args

    async def clear_outbox(self, entries: Mapping[int, Sequence[str]]) -> None:
        """Step 4: forgets entries the broker has confirmed. Names are unique per owner: never another's."""
        async with self._answering(), self._redis.pipeline(transaction=False) as pipe:
            for partition, names in entries.items():
                if names:
                    pipe.hdel(self.key(partition, "outbox"), *names)
            await pipe.execute()

    async def silent_patients(self, partition: int, after_ms: int, to_ms: int) -> list[str]:
        """Patients whose newest record lies in (after_ms, to_ms], oldest first."""
        async with self._answering():
            found = await self._redis.zrangebyscore(self.key(partition, "activity"), f"({after_ms}", to_ms)
        return [member.decode() for member in found]

    async def untouched(self, partition: int, since_ms: int, most: int) -> list[str]:
        """So many patients, at most, of whom nothing was written since then."""
        async with self._answering():
            found = await self._redis.zrangebyscore(self.key(partition, "touched"), "-inf", since_ms, 0, most)
        return [member.decode() for member in found]

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        """Turns a Redis that does not answer, or takes no work now, into `Unavailable`; other errors stay what they are."""
        try:
            yield
        except (RedisConnectionError, RedisTimeoutError, ConnectionError, TimeoutError) as error:
            raise Unavailable(f"Redis does not answer ({type(error).__name__})") from error
        except (OutOfMemoryError, ReadOnlyError, ClusterDownError, TryAgainError) as error:
            if isinstance(error, ReadOnlyError):  # a replica now: by a new connection its successor is found
                await self._writing.disconnect()
                await self._redis.connection_pool.disconnect()
            raise Unavailable(f"Redis takes no work now ({type(error).__name__})") from error
        except ResponseError as error:
            passing = _PASSING.search(str(error))
            if passing is None:
                raise
            raise Unavailable(f"Redis takes no work now ({passing.group(1)})") from error

    async def ping(self) -> None:
        async with self._answering():
            await self._redis.ping()

    async def close(self) -> None:
        await self._writing.disconnect()
        await self._redis.aclose()


def _counted(items: Iterable[tuple[str, str | bytes | int]]) -> list[str | bytes | int]:
    flat = [part for pair in items for part in pair]
    return [len(flat) // 2, *flat]
