"""`wardwatch worker`: both roles as processes, their health ports, and how they end."""

import asyncio
import os
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager

import pytest

from streaming.commands import demo, worker
from streaming.errors import ConfigError, Fatal
from streaming.health import HOST, Health
from streaming.metrics import Metrics


@pytest.fixture
def signals():
    """`_supervise` sets handlers; the test's own come back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("told_at", [1, 2])
def test_a_stop_that_comes_while_a_child_is_being_started_ends_it_too(monkeypatch, signals, told_at):
    children = []

    def start(role):
        if len(children) + 1 == told_at:
            os.kill(os.getpid(), signal.SIGTERM)
        children.append(subprocess.Popen(["sleep", "60"]))
        return children[-1]

    monkeypatch.setattr(worker, "_start", start)
    worker._supervise()
    assert [child.returncode for child in children] == [-signal.SIGTERM] * told_at


@pytest.mark.parametrize(("port", "ports"), [("0", ["0", "0"]), ("18473", ["18473", "18474"])])
def test_each_role_has_a_health_port_of_its_own(monkeypatch, port, ports):
    monkeypatch.setenv("WARDWATCH_HEALTH_PORT", port)
    assert [worker._environment(role)["WARDWATCH_HEALTH_PORT"] for role in ("fusion", "imaging")] == ports


def test_a_health_port_that_is_taken_is_named():
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"^health port {port} cannot be had \(Address already in use\)"):
            asyncio.run(Health(Metrics(), lambda: None).start(port))


@contextmanager
def _workers(port, not_ready):
    """The health of both roles, each saying what `not_ready` holds of it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    both = [Health(Metrics(), lambda role=role: not_ready[role]) for role in ("fusion", "imaging")]
    try:
        for place, health in enumerate(both):
            asyncio.run_coroutine_threadsafe(health.start(port + place), loop).result(10)
        yield
        for health in both:
            asyncio.run_coroutine_threadsafe(health.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_the_demo_waits_for_both_roles_own_word_not_for_a_line_in_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "READY_S", 0.3)
    (tmp_path / "worker.log").touch()
    child, port = subprocess.Popen(["sleep", "60"]), demo._free_pair()
    not_ready = {"fusion": None, "imaging": "no partitions assigned"}
    try:
        with _workers(port, not_ready):
            with pytest.raises(Fatal, match="not ready within"):
                demo._wait_until_ready(child, port, tmp_path / "worker.log")
            not_ready["imaging"] = None
            monkeypatch.setattr(demo, "READY_S", 10.0)
            demo._wait_until_ready(child, port, tmp_path / "worker.log")
    finally:
        child.terminate()
        child.wait()
