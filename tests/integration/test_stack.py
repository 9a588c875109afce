"""The local stack and the topics, for real."""

import json
import os
import signal
from dataclasses import asdict

import pytest
from click.testing import CliRunner

from streaming import local_stack, topics
from streaming.commands import demo
from streaming.errors import Unavailable

pytestmark = pytest.mark.integration


def test_start_is_idempotent_and_down_stops_only_its_own(stack, tmp_path):
    other = local_stack.start(tmp_path, kafka_port=int(stack.bootstrap.rsplit(":", 1)[1]), redis_port=0)
    try:
        assert other.bootstrap != stack.bootstrap  # its port was taken, so a free one was chosen
        assert local_stack.start(tmp_path) == other
    finally:
        assert local_stack.stop(tmp_path)
    assert not local_stack.stop(tmp_path)
    assert topics.broker_count(stack.bootstrap) == 1


def test_a_half_dead_stack_is_cleaned_up_and_its_data_kept(tmp_path):
    first = local_stack.start(tmp_path, kafka_port=0, redis_port=0)
    try:
        topics.create(first.bootstrap, "kept.", 2, 1)
        valkey = next(process for process in first.processes if process.name == "valkey")
        os.kill(valkey.pid, signal.SIGKILL)
        second = local_stack.start(tmp_path, kafka_port=0, redis_port=0)
        assert topics.check(second.bootstrap, "kept.", 2) == []
    finally:
        local_stack.stop(tmp_path)


def test_three_brokers_form_a_cluster_with_replicas(tmp_path):
    cluster = local_stack.start(tmp_path, brokers=3, kafka_port=0, redis_port=0)
    try:
        assert topics.broker_count(cluster.bootstrap) == 3
        topics.create(cluster.bootstrap, "", 4, 3)
        assert topics.check(cluster.bootstrap, "", 4) == []
    finally:
        local_stack.stop(tmp_path)


def test_topics_that_differ_are_named(stack):
    assert len(topics.check(stack.bootstrap, "none.", 8)) == len(topics.TOPICS)
    topics.create(stack.bootstrap, "two.", 2, 1)
    assert topics.create(stack.bootstrap, "two.", 2, 1) == []
    assert all("2 partitions, not 8" in line for line in topics.check(stack.bootstrap, "two.", 8))


@pytest.mark.parametrize("ran_before", [True, False])
def test_a_demo_leaves_running_only_what_ran_before_it(tmp_path, monkeypatch, ran_before):
    """A record of a stack that does not run any more says nothing: its demo's stack is stopped."""

    def fails(*_):
        raise Unavailable("in the middle")

    if ran_before:
        before = local_stack.start(tmp_path, kafka_port=0, redis_port=0)
    else:
        reused = local_stack.Process("kafka-1", os.getpid(), -1)
        before = local_stack.Stack("127.0.0.1:1", "redis://127.0.0.1:1/0", str(tmp_path), (reused,))
        (tmp_path / "stack.json").write_text(json.dumps(asdict(before)), encoding="utf-8")
    monkeypatch.setattr(topics, "create", fails)
    try:
        done = CliRunner().invoke(demo.command, ["--data-dir", str(tmp_path)])
        assert str(done.exception) == "in the middle"
        assert local_stack.find(tmp_path) == (before if ran_before else None)
        if ran_before:
            assert topics.broker_count(before.bootstrap) == 1
    finally:
        local_stack.stop(tmp_path)
