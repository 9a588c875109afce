"""What aiokafka's fetcher asks the brokers at a wake-up, without the cost of asking every partition everything.

The fetcher wakes up several times an event and looks at each partition. Mostly there is nothing to begin: a node that
leads partitions here either is being asked already, or waits until what it brought is taken. And where there is, each
partition is as it was, but for its position. Owns this common case; in every other aiokafka looks.
"""

from collections.abc import Callable
from typing import Any

from aiokafka.protocol.fetch import FetchRequest


class FetchScan:
    """Stands where the fetcher keeps `_get_actions_per_node`, with the same answer.

    Except that while what a node brought waits to be taken, a partition of it that is resumed, or whose position is
    lost, is looked at when that has been taken, at the latest after the fetcher's own back-off (200 ms); and that
    partitions are not shuffled: brokers themselves see to it that each gets its turn (KIP-227). And that nothing is asked
    for while who takes the records is not `hungry`; `wake` says that it is again.
    """

    def __init__(self, fetcher: Any, hungry: Callable[[], bool]) -> None:
        self._fetcher = fetcher
        self._hungry = hungry
        self._look = fetcher._get_actions_per_node
        self._assignment: Any = None
        self._plan: list[tuple[Any, Any, int]] | None = None  # partition, its state, its leader
        fetcher._client.cluster.add_listener(self._moved)

    def wake(self) -> None:
        """Looks again now, not only at the next fetched answer or after the fetcher's back-off."""
        self._fetcher._notify(self._fetcher._wait_consume_future)

    def _moved(self, _: Any) -> None:
        self._plan = None

    def __call__(self, assignment: Any) -> Any:
        fetcher = self._fetcher
        if self._plan is None or self._assignment is not assignment:
            self._assignment, self._plan = assignment, self._planned(assignment)
        if not self._plan or fetcher._preferred_read_replica:
            return self._look(assignment)
        untaken: dict[int, float] = {}
        for tp, records in fetcher._records.items():
            wait_s = records.calculate_backoff()
            if not wait_s:  # waited too long: aiokafka goes on with the node's other partitions
                return self._look(assignment)
            node = fetcher._client.cluster.leader_for_partition(tp)
            untaken[node] = max(wait_s, untaken.get(node, 0.0))
        if not self._hungry():
            return [], {}, fetcher._fetcher_timeout, False, []
        busy = fetcher._in_flight | untaken.keys()
        asked: dict[int, dict[str, list[tuple[int, int, int]]]] = {}
        for tp, state, node in self._plan:
            if node in busy:
                continue
            if state.paused or not state.has_valid_position:
                return self._look(assignment)
            named = (tp.partition, state.position, fetcher._max_partition_fetch_bytes)
            asked.setdefault(node, {}).setdefault(tp.topic, []).append(named)
        requests = [(node, self._request(topics)) for node, topics in asked.items()]
        return requests, {}, min(untaken.values(), default=fetcher._fetcher_timeout), False, []

    def _planned(self, assignment: Any) -> list[tuple[Any, Any, int]]:
        """Empty where a leader is not known: aiokafka then asks for it."""
        leader_of = self._fetcher._client.cluster.leader_for_partition
        plan = [(tp, assignment.state_value(tp), leader_of(tp)) for tp in assignment.tps]
        return [] if any(leader in (None, -1) for *_, leader in plan) else plan

    def _request(self, topics: dict[str, list[tuple[int, int, int]]]) -> FetchRequest:
        fetcher = self._fetcher
        return FetchRequest(
            fetcher._fetch_max_wait_ms,
            fetcher._fetch_min_bytes,
            fetcher._fetch_max_bytes,
            fetcher._isolation_level,
            list(topics.items()),
            rack_id=fetcher._client_rack or "",
        )
