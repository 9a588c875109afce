"""A consumer that lives and fetches nothing (aiokafka#1154) ends the worker instead of a silent stop."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

STUCK = """
import asyncio, os, sys
from streaming import agent
from streaming.errors import Fatal
from streaming.settings import Settings

agent.STUCK_S = 4.0

class NoWork:
    ahead = {}
    async def take_over(self, committed):
        return {partition: dict.fromkeys(topics, 0) for partition, topics in committed.items()}

class Observer:
    def waiting(self, batches): pass

async def main():
    worker = agent.Worker("fusion", ("vitals",), NoWork(), Observer(), Settings())
    running = asyncio.ensure_future(worker.run())
    while not worker.assigned:
        await asyncio.sleep(0.1)
    await asyncio.wait({running}, timeout=7)
    print("idle:", "ended" if running.done() else "runs", flush=True)
    worker.app.consumer._thread._consumer._fetcher._fetch_task.cancel()
    try:
        await running
    except Fatal as error:
        print(error, flush=True)
    os._exit(0)

asyncio.run(main())
"""


def test_a_stuck_consumer_ends_the_worker(site):
    done = subprocess.run(
        [sys.executable, "-c", STUCK], env=site.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == [
        "idle: runs",
        "the consumer has fetched nothing for 4 s and nothing else is away",
    ], done.stderr[-2000:]
