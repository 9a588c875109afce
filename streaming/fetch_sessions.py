"""Incremental fetch sessions (KIP-227) for aiokafka, which names every partition in every fetch without them.

A worker reads four topics of many partitions, and at a steady trickle each fetch brings one record: without a session
client and broker write out and read back all partitions for it. Here a request names what changed since the last one.
Wraps the consumer's Kafka client; everything but fetches passes through. Owns the sessions; leaves positions, buffers
and errors to aiokafka's fetcher, which takes a response of any subset of what it asked for.

A partition that has data is in every response until its position moves on, so a response that was thrown away (a
rebalance in between) loses nothing. After any error the session is given up and the next fetch names everything.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka.protocol.fetch import FetchRequest

_FIRST_EPOCH, _LAST_EPOCH = 0, 2**31 - 1
_NAMED = 7  # fetch sessions came with version 7 of the request

Wanted = Mapping[tuple[str, int], tuple[int, int]]  # (topic, partition): (offset, bytes at most)


@dataclass(frozen=True, slots=True)
class Session:
    """What the broker remembers: `held` is what it believes the reader wants; id 0 asks for a new session."""

    id: int = 0
    epoch: int = _FIRST_EPOCH
    held: Wanted | None = None

    def following(self, session_id: int, wanted: Wanted) -> "Session":
        """After an answered request. Epochs wrap to 1, since 0 asks for a new session."""
        return Session(session_id, 1 if self.epoch == _LAST_EPOCH else self.epoch + 1, wanted)


class IncrementalFetch(FetchRequest):
    """aiokafka's fetch, naming only what `session` does not hold yet, and what it must forget."""

    def __init__(self, whole: FetchRequest, session: Session) -> None:
        self.wanted = wanted = wanted_of(whole)
        held = session.held or {}
        named: dict[str, list[tuple[int, int, int]]] = {}
        for (topic, partition), (offset, most) in wanted.items():
            if held.get((topic, partition)) != (offset, most):
                named.setdefault(topic, []).append((partition, offset, most))
        self.forgotten: dict[str, list[int]] = {}
        for topic, partition in held.keys() - wanted.keys():
            self.forgotten.setdefault(topic, []).append(partition)
        super().__init__(
            whole._max_wait_ms,
            whole._min_bytes,
            whole._max_bytes,
            whole._isolation_level,
            list(named.items()),
            whole._rack_id,
        )
        self._whole, self._session = whole, session

    def build(self, request_struct_class: Any) -> Any:
        if request_struct_class.API_VERSION < _NAMED:
            return self._whole.build(request_struct_class)
        built = super().build(request_struct_class)
        built.__dict__["session_id"] = self._session.id
        built.__dict__["session_epoch"] = self._session.epoch
        built.__dict__["forgotten_topics_data"] = list(self.forgotten.items())
        return built


class FetchSessions:
    """Stands where aiokafka's consumer keeps its client. `last_ended` (monotonic s): the last fetch's end, answered or
    failed; a consumer that lives but no longer fetches (aiokafka#1154) is known by it.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._sessions: dict[int, Session] = {}
        self.last_ended = time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: int, request: Any, **options: Any) -> Any:
        if not isinstance(request, FetchRequest):
            return await self._client.send(node_id, request, **options)
        try:
            return await self._fetch(node_id, request, **options)
        finally:
            self.last_ended = time.monotonic()

    async def _fetch(self, node_id: int, request: FetchRequest, **options: Any) -> Any:
        # Taken out, so that a fetch that fails or is cancelled leaves none behind.
        session = self._sessions.pop(node_id, Session())
        asked = IncrementalFetch(request, session)
        response = await self._client.send(node_id, asked, **options)
        if response.API_VERSION < _NAMED:
            return response
        if response.error_code:  # the broker no longer knows this session, or another epoch of it: name everything
            session = Session()
            response = await self._client.send(node_id, IncrementalFetch(request, session), **options)
        if not response.error_code and response.session_id:
            self._sessions[node_id] = session.following(response.session_id, asked.wanted)
        return response


def wanted_of(request: FetchRequest) -> Wanted:
    """Everything a whole fetch names."""
    return {
        (topic, partition): (offset, most)
        for topic, partitions in request.topics
        for partition, offset, most in partitions
    }
