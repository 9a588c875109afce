"""Spares aiokafka's fetcher most of its looks through all partitions.

At every wake-up, several times an event, the fetcher looks at each partition for something to ask the brokers. Mostly
there is nothing: a node that leads partitions here either is being asked already, or waits until what it brought is
taken. That can be seen from the nodes alone. Owns this question; whenever its answer is not a plain no, aiokafka looks.
"""

from typing import Any


class FetchScan:
    """Stands where the fetcher keeps `_get_actions_per_node`, with the same answer.

    Except that while what a node brought waits to be taken, a partition of it that is resumed, or whose position is
    lost, is looked at when that has been taken, at the latest after the fetcher's own back-off (200 ms).
    """

    def __init__(self, fetcher: Any) -> None:
        self._fetcher = fetcher
        self._look = fetcher._get_actions_per_node
        self._assignment: Any = None
        self._leaders: set[int | None] | None = None
        fetcher._client.cluster.add_listener(self._moved)

    def _moved(self, _: Any) -> None:
        self._leaders = None

    def __call__(self, assignment: Any) -> Any:
        fetcher = self._fetcher
        if fetcher._preferred_read_replica:
            return self._look(assignment)
        leader_of = fetcher._client.cluster.leader_for_partition
        if self._leaders is None or self._assignment is not assignment:
            self._assignment, self._leaders = assignment, {leader_of(tp) for tp in assignment.tps}
        untaken: dict[int | None, float] = {}
        for tp, records in fetcher._records.items():
            wait_s = records.calculate_backoff()
            if wait_s:
                node = leader_of(tp)
                untaken[node] = max(wait_s, untaken.get(node, 0.0))
        unknown = not self._leaders or not self._leaders.isdisjoint((None, -1))
        if unknown or not self._leaders <= fetcher._in_flight | untaken.keys():
            return self._look(assignment)
        return [], {}, min(untaken.values(), default=fetcher._fetcher_timeout), False, []
