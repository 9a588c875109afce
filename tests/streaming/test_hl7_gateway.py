"""The HL7 door on a real socket: framing, order, limits, and what is answered when Kafka confirms or is away."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streaming.gateways import er7, mllp
from streaming.gateways.drafts import Rules
from streaming.gateways.hl7 import Bounds, Hl7Gateway
from streaming.gateways.times import zone_of
from streaming.metrics import Metrics
from tests.streaming.broker import Broker

RULES = Rules(zone=zone_of("UTC"))


def oru(control, value="80", unit="/min", status="F"):
    return (
        f"MSH|^~\\&|MON|ICU|WARD|H|20260101000100||ORU^R01|{control}|P|2.5.1\rPID|1||123\r"
        f"OBR|1||||||20260101000000\rOBX|1|NM|8867-4^HR^LN||{value}|{unit}|||||{status}\r"
    ).encode()


class Sender:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def receive(self):
        """(MSA-1, MSA-2, ERR codes) of the next answer; None when the connection is closed."""
        async with asyncio.timeout(20):
            answer = await mllp.read(self.reader, 1 << 20, 20)
        if answer is None:
            return None
        found = er7.parse(answer)
        by_name = {segment.name: segment for segment in found.segments}
        errors = [segment.component(3) for segment in found.segments if segment.name == "ERR"]
        return by_name["MSA"].raw(1), by_name["MSA"].raw(2), errors

    async def send(self, data):
        self.writer.write(mllp.frame(data))
        return await self.receive()


def converse(tmp_path, script, **bounds):
    """Runs `script(gateway, broker, connect)` on a gateway of its own; gives (broker, metrics text)."""
    broker, metrics = Broker(tmp_path), Metrics()

    async def run():
        gateway = Hl7Gateway(broker, RULES, Bounds(**bounds), metrics)
        port = await gateway.start("127.0.0.1", 0)

        async def connect():
            return Sender(*await asyncio.open_connection("127.0.0.1", port))

        try:
            await script(gateway, broker, connect)
        finally:
            broker.confirm.set()
            await gateway.stop()

    asyncio.run(run())
    return broker, metrics.render()


def test_a_message_is_answered_only_after_the_brokers_word(tmp_path):
    async def script(gateway, broker, connect):
        broker.confirm.clear()
        sender = await connect()
        answer = asyncio.create_task(sender.send(oru("1")))
        await asyncio.to_thread(broker.asked.wait, 20)
        assert not answer.done()
        broker.confirm.set()
        assert await answer == ("AA", "1", [])

    broker, metrics = converse(tmp_path, script)
    assert [record.kind for record in broker.records] == ["vitals"]
    assert 'wardwatch_gateway_messages_total{gateway="hl7",outcome="accepted"} 1' in metrics


def test_messages_of_a_connection_keep_their_order(tmp_path):
    async def script(gateway, broker, connect):
        sender = await connect()
        sender.writer.write(b"".join(mllp.frame(oru(str(n), value=str(60 + n))) for n in range(20)))
        assert [(await sender.receive())[1] for _ in range(20)] == [str(n) for n in range(20)]

    broker, _ = converse(tmp_path, script)
    assert [dict(record.headers)["ce_id"].split(b"/")[0] for record in broker.records] == [b"%d" % n for n in range(20)]


def test_while_kafka_is_away_the_sender_keeps_the_message(tmp_path):
    async def script(gateway, broker, connect):
        sender = await connect()
        broker.away = True
        for data in (oru("1"), oru("2", unit="furlong"), b"nonsense"):
            code, _, errors = await sender.send(data)
            assert (code, errors) == ("AR", ["207"])
        broker.away = False
        assert await sender.send(oru("1")) == ("AA", "1", [])

    broker, _ = converse(tmp_path, script)
    assert len(broker.records) == 1 and not broker.refused


@pytest.mark.parametrize(
    ("data", "answer", "letters"),
    [
        (b"nonsense", ("AR", "", ["102"]), ["bad-hl7"]),
        (oru("7", unit="furlong"), ("AE", "7", ["103"]), ["unknown-unit"]),
        (oru("7").replace(b"123", b""), ("AE", "7", ["204"]), ["missing-patient"]),
        (oru("7").replace(b"ORU^R01", b"ADT^A01"), ("AR", "7", ["201"]), []),
        (oru("7").replace(b"|P|", b"|T|"), ("AR", "7", ["202"]), []),
        (oru("7") + b"OBX|2|NM|8867-4^HR^LN||80|furlong|||||F\r", ("AA", "7", ["103"]), ["unknown-unit"]),
        (oru("7") + b"OBX|2|SN|8867-4^HR^LN||>^80|/min|||||C\r", ("AA", "7", ["102"]), ["bad-hl7"]),
        (oru("7", value="", status="C"), ("AE", "7", ["102"]), ["bad-hl7"]),
        (oru("7") + oru("9"), ("AR", "7", ["102"]), ["bad-hl7"]),
        (oru("7").replace(b"8867-4", b"1-1"), ("AA", "7", []), []),
    ],
)
def test_what_cannot_be_taken_is_said_and_kept_with_its_bytes(tmp_path, data, answer, letters):
    async def script(gateway, broker, connect):
        sender = await connect()
        assert await sender.send(data) == answer
        assert (await sender.send(oru("8")))[0] == "AA"  # the connection goes on

    broker, _ = converse(tmp_path, script)
    assert [reason for *_, reason in broker.refused] == letters
    assert all(kept == data for _, _, kept, _ in broker.refused)


def test_an_error_of_our_own_is_answered_too(tmp_path):
    async def script(gateway, broker, connect):
        def broken(records):
            raise RuntimeError("text that may quote a patient")

        broker.deliver = broken
        sender = await connect()
        assert await sender.send(oru("1")) == ("AR", "1", ["207"])

    converse(tmp_path, script)


def test_a_message_over_the_limit_is_rejected_and_the_connection_closed(tmp_path):
    async def script(gateway, broker, connect):
        sender = await connect()
        assert await sender.send(oru("1") + b"Z" * 5000) == ("AR", "1", ["102"])
        assert await sender.receive() is None
        sender = await connect()
        assert (await sender.send(oru("2")))[0] == "AA"

    converse(tmp_path, script, message_bytes=2000)


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", b"\r\n" * 2000])
def test_what_is_no_mllp_is_hung_up_on(tmp_path, noise):
    async def script(gateway, broker, connect):
        sender = await connect()
        sender.writer.write(noise)
        with pytest.raises((ConnectionError, EOFError)):
            if await sender.receive() is None:
                raise EOFError

    converse(tmp_path, script)


def test_a_message_that_never_ends_times_out_and_one_too_many_is_hung_up_on(tmp_path):
    async def script(gateway, broker, connect):
        slow = await connect()
        slow.writer.write(b"\x0bMSH|")
        async with asyncio.timeout(20):
            assert await slow.reader.read() == b""
        first = await connect()
        assert (await first.send(oru("1")))[0] == "AA"
        second = await connect()
        async with asyncio.timeout(20):
            assert await second.reader.read() == b""
        assert (await first.send(oru("2")))[0] == "AA"

    converse(tmp_path, script, connections=1, message_timeout_s=0.2)


def test_stopping_answers_what_is_in_work_and_closes_the_rest(tmp_path):
    async def script(gateway, broker, connect):
        idle, busy = await connect(), await connect()
        assert (await idle.send(oru("0")))[0] == "AA"
        broker.asked.clear()
        broker.confirm.clear()
        answer = asyncio.create_task(busy.send(oru("1")))
        await asyncio.to_thread(broker.asked.wait, 20)
        stopping = asyncio.create_task(gateway.stop())
        assert await idle.receive() is None
        assert not stopping.done()
        broker.confirm.set()
        assert await answer == ("AA", "1", [])
        assert await busy.receive() is None
        await stopping

    converse(tmp_path, script)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.tuples(st.integers(0, 150), st.binary(max_size=2)), min_size=1, max_size=8),
    )
)
def test_whatever_comes_is_answered_and_never_by_an_error_of_ours(tmp_path, noise):
    """Random bytes, or a whole message with some bytes replaced."""
    data = noise if isinstance(noise, bytes) else bytearray(oru("7"))
    if not isinstance(noise, bytes):
        for place, piece in noise:
            data[place : place + len(piece)] = piece
    metrics = Metrics()
    gateway = Hl7Gateway(Broker(tmp_path), RULES, Bounds(), metrics)
    answer = er7.parse(asyncio.run(gateway.answer(bytes(data))))
    assert next(s for s in answer.segments if s.name == "MSA").raw(1) in ("AA", "AE", "AR")
    assert 'outcome="failed"' not in metrics.render()
