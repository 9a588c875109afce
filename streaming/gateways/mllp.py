"""MLLP framing (HL7 v2 transport, release 1): <VT> message <FS><CR> on a stream. Owns nothing of the message."""

import asyncio

START, END, CARRIAGE_RETURN = b"\x0b", b"\x1c", b"\r"
MOST_NOISE = 1024
"""Bytes between two frames (line ends, keep-alives of some engines) before the connection counts as no MLLP."""


class NotMllp(Exception):
    """The peer does not speak MLLP: the connection cannot go on."""


class TooLarge(Exception):
    """A frame is over the limit; `begin` are its first bytes. The connection cannot go on."""

    def __init__(self, begin: bytes) -> None:
        super().__init__("frame over the limit")
        self.begin = begin


async def read(reader: asyncio.StreamReader, limit: int, body_timeout_s: float) -> bytes | None:
    """The next message without its frame; None at the end of the stream.

    `reader` was made with a limit of `limit` bytes.

    Raises:
        NotMllp: something else than frames comes.
        TooLarge: the message has more than `limit` bytes.
        TimeoutError: a message that began did not end within `body_timeout_s`.
        ConnectionError: the peer went away in the middle of a message.
    """
    noise = 0
    while (byte := await reader.read(1)) != START:
        if not byte:
            return None
        noise += 1
        if not byte.isspace() or noise > MOST_NOISE:
            raise NotMllp
    async with asyncio.timeout(body_timeout_s):
        try:
            return (await reader.readuntil(END))[:-1]
        except asyncio.LimitOverrunError:
            raise TooLarge(await reader.read(65_536)) from None
        except asyncio.IncompleteReadError:
            raise ConnectionResetError from None


def frame(message: bytes) -> bytes:
    return START + message + END + CARRIAGE_RETURN
