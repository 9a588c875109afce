"""Untrusted decoding in child processes with limits. Owns their life; leaves what decoding means to `dicom.py`.

A child that dies or overruns its time costs its scan alone (`decode-limit`), and a new child takes its place; so does
one, between two scans, for a child that has used up half of its CPU time.
"""

import asyncio
import json
import struct
import sys
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from models.picture import SIZE
from streaming.decode_child import ANSWER, CPU_SECONDS
from streaming.dicom import DicomHeader
from streaming.errors import InvalidMessage

TIMEOUT_S = 20.0
START_TIMEOUT_S = 30.0
PIECE_BYTES = 1 << 20
"""A scan is written to the pipe piece by piece: the event loop would copy what the pipe does not take at once."""
WORN_CPU_S = CPU_SECONDS / 2
"""The other half is more than a scan takes within `TIMEOUT_S`, on a dozen threads too."""


class DecodePool:
    """`async with DecodePool() as pool: header, pixels = await pool.decode(data)`."""

    def __init__(self, workers: int = 2, timeout_s: float = TIMEOUT_S) -> None:
        self.workers = workers
        self._timeout_s = timeout_s
        self._idle: asyncio.Queue[asyncio.subprocess.Process] = asyncio.Queue()
        self._children: set[asyncio.subprocess.Process] = set()

    async def __aenter__(self) -> "DecodePool":
        for _ in range(self.workers):
            self._idle.put_nowait(await self._start())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in list(self._children):
            await self._end(child)

    async def decode(self, data: bytes) -> tuple[DicomHeader, NDArray[np.float32]]:
        """Header and f32 [224, 224] in 0..1.

        Raises:
            InvalidMessage: bad-dicom, unsupported-image, or decode-limit when the child died or overran.
        """
        child = await self._idle.get()
        try:
            answer = await asyncio.wait_for(_ask(child, data), self._timeout_s)
        except BaseException as error:
            await self._end(child)
            self._idle.put_nowait(await self._start())
            if isinstance(error, (TimeoutError, asyncio.IncompleteReadError, OSError)):
                raise InvalidMessage("decode-limit", "decoding ended at its limit of time or memory") from None
            raise
        decoded, cpu_s = ANSWER.unpack_from(answer)
        if cpu_s > WORN_CPU_S:
            await self._end(child)
            child = await self._start()
        self._idle.put_nowait(child)
        told = answer[ANSWER.size :]
        if not decoded:
            reason, detail = json.loads(told)
            raise InvalidMessage(reason, detail)
        end = 4 + struct.unpack_from("<I", told)[0]
        pixels = np.frombuffer(told[end:], np.float32).reshape(SIZE, SIZE)
        return DicomHeader(*json.loads(told[4:end])), pixels

    @property
    def pids(self) -> list[int]:
        """The children's process ids."""
        return [child.pid for child in self._children]

    async def _start(self) -> asyncio.subprocess.Process:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "streaming.decode_child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        self._children.add(child)
        await asyncio.wait_for(_receive(child), START_TIMEOUT_S)
        return child

    async def _end(self, child: asyncio.subprocess.Process) -> None:
        self._children.discard(child)
        if child.returncode is None:
            child.kill()
        await child.wait()


async def _ask(child: asyncio.subprocess.Process, data: bytes) -> bytes:
    assert child.stdin is not None
    child.stdin.write(struct.pack("<Q", len(data)))
    for at in range(0, len(data), PIECE_BYTES):
        child.stdin.write(data[at : at + PIECE_BYTES])
        await child.stdin.drain()
    return await _receive(child)


async def _receive(child: asyncio.subprocess.Process) -> bytes:
    assert child.stdout is not None
    head = await child.stdout.readexactly(8)
    return await child.stdout.readexactly(struct.unpack("<Q", head)[0])
