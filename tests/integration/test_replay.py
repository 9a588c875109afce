"""A replay on a broker that refuses some of its events."""

import asyncio
from itertools import count

import orjson
import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import MessageSizeTooLargeError

from streaming import replay
from streaming.errors import Unavailable
from streaming.mimic import Outgoing
from tests.helpers import HEART_RATE, NOON, observation
from tests.integration.conftest import eventually

pytestmark = pytest.mark.integration


def _event(number, observations=1):
    body = {"observations": [observation(HEART_RATE, 80, "/min", NOON)] * observations}
    return Outgoing("vitals", str(number), "t", "p1", None, NOON, NOON, 0, orjson.dumps(body)), ""


def _refused(site):
    try:
        site.raw("vitals", b"p1", bytes(50_000), [])
    except MessageSizeTooLargeError:
        return True


@pytest.fixture
def replayed(site):
    """Replays to a site whose `vitals` takes small events only."""
    admin = KafkaAdminClient(bootstrap_servers=site.stack.bootstrap)
    small = ConfigResource(ConfigResourceType.TOPIC, f"{site.prefix}vitals", {"max.message.bytes": "20000"})
    admin.alter_configs([small])
    admin.close()
    eventually(lambda: _refused(site), "the broker knows the new limit")

    def run(events):
        going = replay.run(
            events, site.stack.bootstrap, site.prefix, replay.Pace(rate=100), seed=1, idle_timeout_s=30, wait=False,
            on_alert=lambda _: None, on_progress=lambda _: None,
        )  # fmt: skip
        return asyncio.run(asyncio.wait_for(going, 30))

    return run


@pytest.mark.parametrize("events", [(_event(0), _event(1, 1000)), (_event(0, 1000),)])
def test_a_refused_event_ends_the_replay_with_its_reason(replayed, events):
    with pytest.raises(Unavailable, match="MessageSizeTooLargeError"):
        replayed(events)


def test_a_refusal_in_the_middle_ends_it_there(replayed):
    with pytest.raises(Unavailable, match="MessageSizeTooLargeError"):
        replayed(_event(number, 1000 if number == 5 else 1) for number in count())


def test_a_replay_of_which_nothing_is_refused_goes_through(replayed):
    watch, _ = replayed(_event(number) for number in range(10))
    assert watch.produced == 10
