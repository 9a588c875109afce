"""The HL7 v2 door: an MLLP server. One message of a connection after the other: read, translate, publish, answer.

AA is sent only after the broker has confirmed every event. A refused message goes to dead letters with its bytes before
its AE or AR is sent; while Kafka is away the answer is AR with error 207, and the sender keeps the message. On SIGTERM
the message in work is answered, then connections close. Log lines name a connection, never what came over it.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from streaming.clock import wall_ms
from streaming.errors import InvalidMessage, Unavailable
from streaming.gateways import acknowledgments as ack
from streaming.gateways import er7, mllp
from streaming.gateways.delivery import Delivery
from streaming.gateways.drafts import Rules, Translation
from streaming.gateways.translation import Rejected, translate
from streaming.metrics import Metrics

log = logging.getLogger(__name__)

DOOR = "hl7"
WRITE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one peer may take of this process. Times in seconds."""

    message_bytes: int = 4 << 20
    connections: int = 64
    message_timeout_s: float = 30.0
    idle_timeout_s: float = 3600.0


@dataclass(slots=True, eq=False)
class _Connection:
    task: asyncio.Task[None]
    number: int
    idle: bool = True
    messages: int = 0


class Hl7Gateway:
    """Listens from `start` to `stop`."""

    def __init__(self, delivery: Delivery, rules: Rules, bounds: Bounds, metrics: Metrics) -> None:
        self._delivery, self._rules, self._bounds, self._metrics = delivery, rules, bounds, metrics
        self._connections: set[_Connection] = set()
        self._accepted = 0
        self._stopping = False
        self._executor = ThreadPoolExecutor(bounds.connections, thread_name_prefix="hl7")
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listens; port 0 takes any free one. Gives the port.

        Raises:
            OSError: the address cannot be had.
        """
        self._server = await asyncio.start_server(self._connected, host, port, limit=self._bounds.message_bytes)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Answers what is in work, takes nothing new."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            if connection.idle:
                connection.task.cancel()
        if self._connections:
            await asyncio.wait([connection.task for connection in self._connections])
        self._executor.shutdown()

    async def answer(self, data: bytes) -> bytes:
        """The acknowledgment of one message's bytes; whatever they are, one comes."""
        received_ms = wall_ms()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._answer, data, received_ms)
        except Exception as error:
            # The text of a foreign error may quote the message: only its kind is told.
            log.error("hl7: unexpected %s", type(error).__name__, exc_info=log.isEnabledFor(logging.DEBUG))
            self._count("failed")
            problem = ack.Problem(ack.INTERNAL_ERROR, "internal error")
            return ack.acknowledge(_header(data), "AR", [problem], received_ms)

    def _answer(self, data: bytes, received_ms: int) -> bytes:
        header = _header(data)
        try:
            code, problems = self._take(data, received_ms)
        except Unavailable:
            self._count("unavailable")
            code, problems = "AR", [ack.Problem(ack.INTERNAL_ERROR, "not stored: send it again later")]
        return ack.acknowledge(header, code, problems, received_ms)

    def _take(self, data: bytes, received_ms: int) -> tuple[ack.Code, list[ack.Problem]]:
        try:
            message = er7.parse(data)
        except InvalidMessage as error:
            return self._refused("AR", data, error, None)
        try:
            found = translate(message, data, self._rules, received_ms)
        except Rejected as error:
            self._count("not-taken")
            return "AR", [ack.Problem(error.number, error.text)]
        except InvalidMessage as error:
            return self._refused("AE", data, error, None)
        for why, count in found.skipped.items():
            self._metrics.count("wardwatch_gateway_skipped_total", count, why=why)
        if found.refusals and not found.records:
            return self._refused("AE", data, found.refusals[0], found)
        # The dead letter first: should Kafka go away between the two, the sender still has the message.
        if found.refusals:
            self._delivery.refuse(DOOR, found.patient, data, found.refusals[0])
        self._delivery.deliver(found.records)
        self._count("partly-refused" if found.refusals else "accepted")
        return "AA", [ack.Problem(p.number, p.text, p.place, "W") for p in found.problems]

    def _refused(
        self, code: ack.Code, data: bytes, error: InvalidMessage, found: Translation | None
    ) -> tuple[ack.Code, list[ack.Problem]]:
        self._delivery.refuse(DOOR, found.patient if found else None, data, error)
        self._count(f"refused:{error.reason}")
        if found is not None:
            return code, found.problems
        number = ack.UNKNOWN_KEY if error.reason == "missing-patient" else ack.DATA_TYPE
        return code, [ack.Problem(number, str(error))]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._accepted += 1
        connection = _Connection(task, self._accepted)
        if self._stopping or len(self._connections) >= self._bounds.connections:
            log.warning("hl7 connection %d refused: %d are open", connection.number, len(self._connections))
            writer.close()
            return
        self._connections.add(connection)
        self._metrics.set("wardwatch_gateway_connections", len(self._connections))
        log.info("hl7 connection %d open", connection.number)
        how = "closed by the sender"
        try:
            how = await self._converse(connection, reader, writer)
        except (ConnectionError, TimeoutError) as error:
            how = f"lost ({type(error).__name__})"
        except asyncio.CancelledError:
            how = "closed: the gateway stops"
        finally:
            writer.close()
            self._connections.discard(connection)
            self._metrics.set("wardwatch_gateway_connections", len(self._connections))
            log.info("hl7 connection %d %s after %d messages", connection.number, how, connection.messages)

    async def _converse(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> str:
        bounds = self._bounds
        while not self._stopping:
            connection.idle = True
            last = False
            try:
                async with asyncio.timeout(bounds.idle_timeout_s):
                    data = await mllp.read(reader, bounds.message_bytes, bounds.message_timeout_s)
            except mllp.NotMllp:
                return "closed: it does not speak MLLP"
            except mllp.TooLarge as error:
                data, last = error.begin, True
            connection.idle = False
            if data is None:
                return "closed by the sender"
            connection.messages += 1
            reply = self._too_large(data) if last else await self.answer(data)
            writer.write(mllp.frame(reply))
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await writer.drain()
            if last:
                return "closed: a message over the limit"
        return "closed: the gateway stops"

    def _too_large(self, begin: bytes) -> bytes:
        """Only the begin of it was read: it is answered, and the sender keeps it."""
        self._count("too-large")
        problem = ack.Problem(ack.DATA_TYPE, f"too-large: more than {self._bounds.message_bytes} bytes")
        return ack.acknowledge(_header(begin), "AR", [problem], wall_ms())

    def _count(self, outcome: str) -> None:
        self._metrics.count("wardwatch_gateway_messages_total", 1, gateway=DOOR, outcome=outcome)


def _header(data: bytes) -> er7.Segment | None:
    try:
        return er7.read_header(data)
    except InvalidMessage:
        return None
