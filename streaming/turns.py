"""Turns of the event loop in the middle of long work. Owns how long work may hold the loop."""

import asyncio
import sys
import time

HOLD_S = 0.002
"""A step should take less than this, or the loop is held as long as the step takes."""
SWITCH_S = HOLD_S / 4
"""How long another thread may keep the interpreter once the loop wants it back; Python's own 5 ms would be paid at every
one of the loop's system calls while a thread scores."""


def before_threads() -> None:
    """At the start of a worker: the event loop is the thread that others give way to."""
    sys.setswitchinterval(SWITCH_S)


class Turns:
    """`await give()` after each step of work on the loop: others (heartbeats, fetches, the last batch's write) get a
    turn once `HOLD_S` have passed; until then it reads a clock.
    """

    def __init__(self) -> None:
        self._until = time.perf_counter() + HOLD_S

    async def give(self) -> None:
        if time.perf_counter() >= self._until:
            await asyncio.sleep(0)
            self._until = time.perf_counter() + HOLD_S
